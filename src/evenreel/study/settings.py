"""What a study covers; one TOML file."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from evenreel.errors import SettingsError
from evenreel.files import expanded
from evenreel.settings import EditSettings, NotEmpty, Range, plain, read, settle


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """A study on clips of the world, whose right answers are known."""

    model: str = "mini"
    """As `--model` of an edit; it must know the world."""
    adapter: str | None = None
    """Adapter file, or `mini` where one is packaged; without one, what needs it is shown as not run."""
    hosts: tuple[str, ...] = ("frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome")
    inversion: Annotated[str, NotEmpty()] = EditSettings.inversion
    """Inversion of edits whose experiment names none."""
    tokens: Mapping[str, str] = field(default_factory=dict[str, str])
    """Adapters trained with other prompt tokens, files by name: strategies and numbers to be compared."""
    trainings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Adapters trained in other ways (loss, layers, noise levels), files by name."""
    training_windows: Mapping[str, str] = field(default_factory=dict[str, str])
    """Adapters by the noise levels at which they were trained, files by name."""
    training_log: str | None = None
    """log.jsonl of a training of an adapter, whose temporal loss is drawn."""
    made_by: tuple[str, ...] = ()
    """Commands of evenreel (`data build`, `train adapter`, `train control`) that make the files which are named here;
    where one is missing they are run in their order, in the folder of these settings, before the study."""
    clips: Annotated[int, Range(1, 100_000)] = 10
    """Clips of each condition; side experiments take a part of them."""
    first: int = 40_000
    """Number of the first held-out clip: none that a default was chosen on."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each clip is edited once with each, where anything is drawn at random; side experiments take the first."""
    frames: Annotated[int, Range(1, 100_000)] = 8
    """Frames of a clip."""
    steps: Annotated[int, Range(1, 1000)] = 15
    """Sampling steps."""
    experiments: tuple[str, ...] = ()
    """Names of those to run; () runs all."""
    strips: int = 2
    """Clips of each condition whose frames are kept for the report and for raters."""
    footage: str | None = None
    """Folder of clips of yours, in the place of the rendered world: with a list of edits, or a benchmark."""
    benchmark: Literal["five", "v2vbench", "tgve", "davis", "msr-vtt"] | None = None
    """The benchmark that the folder of clips is."""
    clip_model: str | None = None
    """Folder of the CLIP that clips of yours are measured with."""
    lpips: str | None = None
    """Safetensors file of the LPIPS that clips of yours are measured with."""
    dino: str | None = None
    """Folder of the DINO that clips of yours are measured with."""
    inception: str | None = None
    """Safetensors file of the Inception v3 that clips of yours are measured with, for FID and KID."""
    controls: Mapping[str, str] = field(default_factory=dict[str, str])
    """ControlNets made for the model, by kind (canny, depth, pose), for Table 3 on clips of yours."""
    depth_model: str | None = None
    """Folder of the Depth Anything that makes depth of clips of yours."""
    pose_model: str | None = None
    """Folder of the ViTPose that makes poses of clips of yours."""
    person_detector: str | None = None
    """Folder of the RT-DETR that tells the ViTPose where people are."""
    folder: Path = Path()
    """Where files that are named by a relative path are looked for; not a part of the record."""

    def __post_init__(self) -> None:
        settle(self)
        if not self.seeds or not self.hosts:
            raise SettingsError("a study needs at least one seed and one host; name some.")
        if len(set(self.seeds)) < len(self.seeds):
            raise SettingsError(
                "a study's seeds must differ; an edit made twice is not a second measurement."
            )
        if self.benchmark is not None and self.footage is None:
            raise SettingsError("a benchmark is a folder of clips; name the folder too.")
        if self.footage is not None and self.model == "mini":
            raise SettingsError("mini knows the rendered world only; name another model for clips of yours.")
        if strange := [kind for kind in self.controls if kind not in ("canny", "depth", "pose")]:
            raise SettingsError(f"a control is canny, depth or pose, got {strange[0]!r:.40}.")

    @property
    def adapters(self) -> tuple[str, ...]:
        """All adapter files that are named."""
        named = (
            self.adapter,
            *self.tokens.values(),
            *self.trainings.values(),
            *self.training_windows.values(),
        )
        return tuple(dict.fromkeys(file for file in named if file))

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are named, on whose content items depend."""
        return (*self.adapters, *((self.training_log,) if self.training_log else ()))

    def path(self, file: str) -> Path:
        """Return where a file lies that the settings name. Raises: SettingsError where there is none."""
        from evenreel.backbones import (
            mini,
        )  # with it comes PyTorch, which a list of experiments need not wait for

        found = mini.ADAPTER if file == "mini" else self.folder / expanded(file)
        if not found.is_file():
            raise SettingsError(f"{found}: there is no such file, though the study's settings name it.")
        return found

    def place(self, told: str) -> Path:
        """Return where a folder or file lies that the settings name. Raises: SettingsError where there is none."""
        found = self.folder / expanded(told)
        if not found.exists():
            raise SettingsError(
                f"{found}: there is nothing of this name, though the study's settings name it."
            )
        return found

    def quick(self) -> "StudySettings":
        """Return the same on so few and short clips that two cores need minutes; too few to conclude anything from."""
        return dataclasses.replace(self, clips=2, seeds=self.seeds[:1], frames=4, steps=5, strips=1)


def read_file(path: Path) -> StudySettings:
    """Read settings from a TOML file. Raises: SettingsError for a file that is none, or says what is not known."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SettingsError(f"{path} cannot be read as study settings ({reason}).") from error
    if "folder" in values:
        raise SettingsError(f"{path} names a folder; leave it out, for files are looked for beside it.")
    whole = {**values, "folder": path.parent}
    return read(StudySettings, whole, f"the study of {path}", within=f"{path}: ")


def changed(settings: StudySettings, values: Mapping[str, Any]) -> StudySettings:
    """Return settings with other values, checked as those of a file are. Raises: SettingsError."""
    return dataclasses.replace(settings, **values)


def as_json(settings: StudySettings) -> dict[str, Any]:
    """Return the settings as plain JSON values, without the folder, which is a place on somebody's machine."""
    return {name: value for name, value in plain(settings).items() if name != "folder"}
