"""What a data set is made of: frozen settings that travel through its manifest."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evenreel.errors import DataError, SettingsError
from evenreel.settings import check_range

CONTROLS = ("canny", "depth")
"""Control pictures that can be kept for every frame."""
MAPS = (*CONTROLS, "flow")
"""All that can be kept beside the frames; depth and flow are exact, and so for rendered scenes only."""
SUFFIX = {"png": "png", "jpeg": "jpg"}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Everything that decides what the samples of a data set look like."""

    size: tuple[int, int] = (512, 512)
    """Width and height of every frame in pixels: clips are scaled to cover it, and cut around their middle."""
    frames: int = 2
    """Frames in a group."""
    gap: int = 2
    """How many frames further each frame of a group lies from the one before: 1 takes neighbours."""
    per_clip: int = 8
    """Groups taken from a clip, spread evenly over it; fewer where it is too short for so many."""
    image_format: str = "png"
    """`png` (every pixel comes back as it was) or `jpeg` (a quarter of the size, quality 95)."""
    maps: tuple[str, ...] = ()
    """Kept beside the frames: `canny`; for rendered scenes also `depth` and `flow`."""
    variations: int = 2
    """Other wordings added for each caption, at most."""
    captioner: str | None = None
    """A program that words captions differently; None: rules."""
    clips_per_shard: int = 32
    """Clips in one shard: what one worker makes at a time, and what is made again after an interruption."""
    allow_truncated: bool = False
    """Take what can be read of clips that are cut short."""
    allow_damaged: bool = False
    """Take what can be read of clips that are damaged or cut short; samples say at which frames damage was found."""

    def __post_init__(self) -> None:
        for side in self.size:
            check_range("size", side, 8, 8192)
        check_range("frames", self.frames, 2, 64)
        check_range("gap", self.gap, 1, 1000)
        check_range("per_clip", self.per_clip, 1, 100_000)
        check_range("variations", self.variations, 0, 100)
        check_range("clips_per_shard", self.clips_per_shard, 1, 100_000)
        if self.image_format not in SUFFIX:
            raise SettingsError(
                f"image_format must be one of {', '.join(SUFFIX)}, got {self.image_format!r}."
            )
        if unknown := [name for name in self.maps if name not in MAPS]:
            raise SettingsError(f"there are no {unknown[0]} maps; there are {', '.join(MAPS)}.")
        if len(set(self.maps)) < len(self.maps):
            raise SettingsError(f"maps names one twice: {', '.join(self.maps)}.")
        if self.captioner is not None and not self.captioner.strip():
            raise SettingsError(
                "captioner is empty; name a program, or leave it out to word captions by rule."
            )

    @property
    def span(self) -> int:
        """Frames of the clip from the first of a group to its last."""
        return (self.frames - 1) * self.gap + 1

    @property
    def frame_members(self) -> tuple[str, ...]:
        """Names of a sample's frames, after its key and a dot."""
        return tuple(f"{index}.{SUFFIX[self.image_format]}" for index in range(self.frames))

    def map_members(self, name: str) -> tuple[str, ...]:
        """Names of one kind of map: one for each frame; flow: one for each step between frames."""
        return tuple(f"{name}.{index}.png" for index in range(self.frames - (name == "flow")))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all that a sample holds."""
        maps = [member for name in self.maps for member in self.map_members(name)]
        return ("json", *self.frame_members, *maps)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: object) -> "DataSettings":
        """Settings from what `to_json` gave. Raises DataError for anything else."""
        known = {field.name for field in dataclasses.fields(cls)}
        if isinstance(values, Mapping):
            values = {"allow_damaged": False, **values}  # which earlier ones do not have
        if not isinstance(values, Mapping) or values.keys() != known:
            raise DataError("its settings are not those that this evenreel knows")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        default = cls()
        for name, value in plain.items():
            kind = str | None if name == "captioner" else type(getattr(default, name))
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise DataError(f"its setting {name} is {value!r}")
        if [type(side) for side in plain["size"]] != [int, int] or not all(
            isinstance(name, str) for name in plain["maps"]
        ):
            raise DataError("its settings are damaged")
        try:
            return cls(**plain)
        except SettingsError as error:
            raise DataError(f"its settings are damaged: {error}".rstrip(".")) from error
