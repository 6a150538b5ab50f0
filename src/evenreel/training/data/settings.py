"""What a data set is made of: frozen settings that travel through its manifest."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from evenreel.errors import DataError, SettingsError, argument
from evenreel.settings import NotEmpty, Option, Range, plain, read, settle
from evenreel.settings.kinds import parse_size

SOURCE, GROUPS, CAPTIONS, MODELS, RUN = (
    "Source",
    "Groups of frames",
    "Captions",
    "Models that look at clips",
    "Run",
)
FEWEST_FRAMES = 2
"""Frames of a rendered scene, at least."""


def parse_side(name: str, text: str) -> tuple[int, int]:
    """Read `SIDE` of a square, or `WIDTHxHEIGHT`."""
    size = parse_size(name, text)
    return size if isinstance(size, tuple) else (size, size)


def parse_several(name: str, told: list[str]) -> tuple[str, ...]:
    """Return words, in the order in which they were told."""
    del name
    return tuple(told)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Where clips come from, beside the folder or file that is named."""

    whose: ClassVar[str] = "a source"

    clips: Annotated[Path | None, Option(SOURCE, metavar="FOLDER", default="beside the captions")] = None
    """Folder of the clips that a file of captions speaks of."""
    split: Annotated[str | None, Option(SOURCE)] = None
    """Split of MSR-VTT to take; the others are left out."""
    world: Annotated[int | None, Range(1, 10_000_000), Option(SOURCE)] = None
    """Number of scenes to render, in the place of clips that are read."""
    first_seed: Annotated[int | None, Range(0), Option(SOURCE, default="0")] = None
    """Seed of the first rendered scene."""
    objects: Annotated[
        int | None, Range(1, 2), Option(SOURCE, default="1, and in a fifth of the scenes 2")
    ] = None
    """Number of objects in every rendered scene, 1 or 2."""
    scene_frames: Annotated[int | None, Range(FEWEST_FRAMES, 10_000), Option(SOURCE, default="24")] = None
    """Number of frames of a rendered scene."""

    def __post_init__(self) -> None:
        settle(self)

    def check(self, named: Path | None) -> None:
        """Raise SettingsError unless one of a `named` source and scenes is given, and nothing of the other."""
        if (named is None) == (self.world is None):
            raise SettingsError(f"give a SOURCE of clips or {argument('world')} SCENES, one of the two.")
        foreign = ("clips", "split") if named is None else ("first_seed", "objects", "scene_frames")
        for name in foreign:
            if getattr(self, name) is not None:
                wanted = "a SOURCE of clips" if named is None else argument("world")
                raise SettingsError(f"{argument(name)} goes with {wanted} only; leave it out.")


@dataclass(frozen=True, kw_only=True)
class LookingSettings:
    """Models of the user's that look at clips: folders in transformers' layout, with safetensors."""

    whose: ClassVar[str] = "models that look at clips"

    depth_model: Annotated[Path | None, Option(MODELS, metavar="FOLDER", default="none")] = None
    """Depth Anything that makes the pictures of `depth` for clips."""
    pose_model: Annotated[Path | None, Option(MODELS, metavar="FOLDER", default="none")] = None
    """ViTPose that makes the pictures of `pose` for clips."""
    person_detector: Annotated[Path | None, Option(MODELS, metavar="FOLDER", default="the whole frame")] = (
        None
    )
    """RT-DETR that tells the ViTPose where people are."""
    captioner_model: Annotated[Path | None, Option(MODELS, metavar="FOLDER", default="none")] = None
    """BLIP that captions the clips which have no captions."""
    rewording_model: Annotated[Path | None, Option(MODELS, metavar="FOLDER", default="by rule")] = None
    """Causal language model that makes the other wordings of captions."""

    def __post_init__(self) -> None:
        settle(self)
        if self.person_detector is not None and self.pose_model is None:
            raise SettingsError(
                f"{argument('person_detector')} goes with {argument('pose_model')} only; name both or none."
            )

    @property
    def named(self) -> dict[str, Path]:
        """Models that are told, by the names of their settings."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: folder for name, folder in found.items() if folder is not None}

    def check(self, settings: "DataSettings", *, rendered: bool) -> None:
        """Raise SettingsError unless these models are what a data set needs, and all of it."""
        if rendered and self.named:
            raise SettingsError(
                f"{argument(next(iter(self.named)))} looks at clips, and all is known exactly of rendered scenes; "
                "leave it out."
            )
        for kind, name in (("depth", "depth_model"), ("pose", "pose_model")):
            asked, told = kind in settings.maps, name in self.named
            if asked and not told and not rendered:
                raise SettingsError(
                    f"{kind} is known exactly for rendered scenes only; for clips give a model as {argument(name)}, or "
                    f"leave {kind} out."
                )
            if told and not asked:
                raise SettingsError(
                    f"{argument(name)} goes with {argument('control')} {kind} only; leave it out."
                )
        if "flow" in settings.maps and not rendered:
            raise SettingsError(
                f"flow is known exactly for rendered scenes only; leave it out, or build with {argument('world')}."
            )
        if settings.captioner is not None and rendered:
            raise SettingsError(
                f"scenes of the world are captioned by their own grammar; leave {argument('captioner')} out."
            )
        if settings.captioner is not None and self.rewording_model is not None:
            raise SettingsError(
                f"{argument('captioner')} and {argument('rewording_model')} both make other wordings; give one of them."
            )


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Everything that decides what the samples of a data set look like."""

    whose: ClassVar[str] = "a data set"

    size: Annotated[
        tuple[int, int],
        Range(8, 8192),
        Option(GROUPS, metavar="SIDE|WxH", default="512", parse=parse_side),
    ] = (512, 512)
    """Size of every frame in pixels: clips are scaled to cover it, and cut around their middle."""
    frames: Annotated[int, Range(2, 64), Option(GROUPS)] = 2
    """Number of frames in a group; the temporal loss `frames` needs 3."""
    gap: Annotated[int, Range(1, 1000), Option(GROUPS)] = 2
    """Distance of the frames in a group, in frames of the clip; at 1 they are neighbours."""
    per_clip: Annotated[int, Range(1, 100_000), Option(GROUPS)] = 8
    """Number of groups taken from each clip, spread evenly over it; fewer where it is too short for so many."""
    jpeg: Annotated[bool, Option(GROUPS)] = False
    """Store pictures as JPEG (quality 95, a quarter of the size), in the place of lossless PNG."""
    control: Annotated[
        tuple[Literal["canny", "depth", "pose"], ...],
        Option(GROUPS, metavar="canny|depth|pose", default="none", parse=parse_several),
    ] = ()
    """Kind of control pictures to add; may be given several times. `depth` and `pose` are exact for rendered scenes and
    take a model for clips; with `pose`, what shows nobody is left out."""
    flow: Annotated[bool, Option(GROUPS)] = False
    """Add the exact motion of rendered scenes; only for these."""
    variations: Annotated[int, Range(0, 100), Option(CAPTIONS)] = 2
    """Largest number of other wordings added for each caption."""
    captioner: Annotated[
        str | None,
        NotEmpty("name a program, or leave it out to word captions by rule"),
        Option(CAPTIONS, metavar="COMMAND", default="by rule"),
    ] = None
    """Program that makes the other wordings: it reads a JSON string a line and writes a JSON list a line."""
    clips_per_shard: Annotated[int, Range(1, 100_000), Option(RUN)] = 32
    """Largest number of clips or scenes in a shard: what one process makes at a time, and what is made again after an
    interruption."""
    allow_truncated: Annotated[bool, Option(SOURCE)] = False
    """Take what can be read of clips that are cut short."""
    allow_damaged: Annotated[bool, Option(SOURCE)] = False
    """Take what can be read of clips that are damaged or cut short; samples say at which frames damage was found."""

    def __post_init__(self) -> None:
        settle(self)
        if len(set(self.control)) < len(self.control):
            raise SettingsError(f"{argument('control')} names one twice: {', '.join(self.control)}.")

    @property
    def image_format(self) -> Literal["png", "jpeg"]:
        """How pictures are stored."""
        return "jpeg" if self.jpeg else "png"

    @property
    def maps(self) -> tuple[str, ...]:
        """All that is kept beside the frames."""
        return (*self.control, *(("flow",) if self.flow else ()))

    @property
    def span(self) -> int:
        """Frames of the clip from the first of a group to its last."""
        return (self.frames - 1) * self.gap + 1

    @property
    def frame_members(self) -> tuple[str, ...]:
        """Names of a sample's frames, after its key and a dot."""
        suffix = "jpg" if self.jpeg else "png"
        return tuple(f"{index}.{suffix}" for index in range(self.frames))

    def map_members(self, name: str) -> tuple[str, ...]:
        """Return names of one kind of map: one for each frame; flow: one for each step between frames."""
        return tuple(f"{name}.{index}.png" for index in range(self.frames - (name == "flow")))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all that a sample holds."""
        maps = [member for name in self.maps for member in self.map_members(name)]
        return ("json", *self.frame_members, *maps)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return plain(self)

    @classmethod
    def from_json(cls, values: object) -> "DataSettings":
        """Return settings from what `to_json` gave. Raises DataError for anything else."""
        found = _as_today(cast("Mapping[str, Any]", values)) if isinstance(values, Mapping) else {}
        if found.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise DataError("its settings are not those that this evenreel knows")
        try:
            return read(cls, found, cls.whose)
        except SettingsError as error:
            raise DataError(f"its settings are damaged: {error}".rstrip(".")) from error


def _as_today(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of earlier data sets under the names of today."""
    found: dict[str, Any] = {"allow_damaged": False, **values}
    if isinstance(found.get("maps"), list):
        maps: list[Any] = found.pop("maps")
        found |= {"control": [name for name in maps if name != "flow"], "flow": "flow" in maps}
    if found.get("image_format") in ("png", "jpeg"):
        found["jpeg"] = found.pop("image_format") == "jpeg"
    return found
