"""What a study covers; one TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """A study on clips of the world, whose right answers are known."""

    model: str = "mini"
    """As `--model` of an edit; it must know the world."""
    adapter: str | None = "mini"
    """Adapter file, or `mini`; without one ("" in a file), what needs it is shown as not run."""
    hosts: tuple[str, ...] = ("frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome")
    clips: int = 20
    """Clips of each condition."""
    first: int = 40_000
    """Number of the first held-out clip: none that a default was chosen on."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each clip is edited once with each."""
    frames: int = 8
    """Frames of a clip."""
    steps: int = 20
    """Sampling steps."""
    experiments: tuple[str, ...] = ()
    """Names of those to run; () runs all."""
    strips: int = 3
    """Clips of each condition whose frames are kept for the report."""

    def __post_init__(self) -> None:
        for name in ("clips", "frames", "steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"a study's {name} must be at least 1, got {getattr(self, name)}.")
        if not self.seeds or not self.hosts:
            raise SettingsError("a study needs at least one seed and one host; name some.")

    def quick(self) -> "StudySettings":
        """The same on so few and short clips that two cores need minutes; too few to conclude anything from."""
        return dataclasses.replace(self, clips=2, seeds=self.seeds[:1], frames=4, steps=8, strips=1)


def read(path: Path) -> StudySettings:
    """Settings from a TOML file. Raises: SettingsError for a file that is none, or says what is not known."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SettingsError(f"{path} cannot be read as study settings ({reason}).") from error
    known = {field.name: field.type for field in dataclasses.fields(StudySettings)}
    if unknown := sorted(values.keys() - known.keys()):
        raise SettingsError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(known)}.")
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    defaults = StudySettings()
    for name, value in plain.items():
        wanted = getattr(defaults, name)
        if type(value) is not (str if name == "adapter" else type(wanted)):
            raise SettingsError(f"{path}: {name} must be like {wanted!r}, got {value!r}.")
    return StudySettings(**plain)


def as_json(settings: StudySettings) -> dict[str, Any]:
    """Settings as plain JSON values."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(settings).items()
    }
