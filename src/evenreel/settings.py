"""What an edit can be told: one frozen, self-checking dataclass that travels through JSON unchanged."""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from evenreel.errors import SettingsError

LARGEST_SEED = 2**63 - 1
LARGEST_STEPS = 1000
LARGEST_SIDE = 8192
LARGEST_GUIDANCE = 100.0
DTYPES = ("auto", "float32", "float16", "bfloat16")
INVERSIONS = ("ddim", "ddpm", "fixed-point", "null-text")

OptionValue = bool | int | float | str | None
"""What one option of a host or an inversion may hold."""

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Everything that decides what an edit looks like; the defaults are those of the command line."""

    prompt: str
    """What the edited clip shows, at most 77 tokens of the model's tokenizer."""
    source_prompt: str = ""
    """What the source clip shows; guides the inversion, and may stay empty."""
    negative_prompt: str = ""
    """What the edited clip must not show."""
    model: str = "mini"
    """`mini` (packaged), a diffusers folder, or a name on the Hugging Face hub."""
    host: str = "vidtome"
    """The algorithm that keeps frames consistent; `evenreel hosts` lists them."""
    host_options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Settings of that host, by name; `evenreel hosts NAME` lists them with their defaults."""
    steps: int = 25
    """Denoising steps."""
    inversion: str = "fixed-point"
    """How the source becomes noise: `ddim`, `ddpm`, `fixed-point` or `null-text`."""
    inversion_options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Settings of that inversion, by name; `evenreel inversions NAME` lists them with their defaults."""
    inversion_steps: int | None = None
    """Noising steps of `ddim` and `null-text`; must be a multiple of `steps`. None: as many as `steps`."""
    guidance_scale: float = 7.5
    """How strongly the prompt pulls; 1 switches guidance off."""
    seed: int = 0
    """Where all randomness starts; the same seed repeats an edit bit for bit on the same machine."""
    size: int | tuple[int, int] | None = None
    """Size at which the model works: the shorter side, or (width, height); None: the model's own. The result always
    has the size of the source."""
    frames: tuple[int, int | None] = (0, None)
    """First frame, and the one after the last (None: the end of the clip)."""
    batch: int = 8
    """Frames that pass through the model together; less needs less memory."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: str = "auto"
    """Number type of the model: `auto` (float16 on a GPU, else float32), `float32`, `float16` or `bfloat16`."""
    allow_truncated: bool = False
    """Edit what can be read of a clip that is cut short."""

    def __post_init__(self) -> None:
        _check_types(self)
        # A private, read-only copy: settings that are frozen must not change through the caller's dictionary.
        for name in _OPTIONS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not self.prompt.strip():
            raise SettingsError(
                "prompt is empty; say what the edited clip shows, for example --prompt 'a blue car'."
            )
        for name in ("prompt", "source_prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
        for name in ("model", "host", "device"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} is empty; name one, or leave it out for the default.")
            _check_text(name, getattr(self, name))
        _check_range("steps", self.steps, 1, LARGEST_STEPS)
        _check_range("seed", self.seed, 0, LARGEST_SEED)
        _check_range("batch", self.batch, 1, 4096)
        _check_range("guidance_scale", self.guidance_scale, 0.0, LARGEST_GUIDANCE)
        if self.inversion_steps is not None:
            _check_range("inversion_steps", self.inversion_steps, self.steps, LARGEST_STEPS)
            if self.inversion_steps % self.steps:
                raise SettingsError(
                    f"inversion_steps must be a multiple of steps ({self.steps}), got {self.inversion_steps}; "
                    f"try {self.steps * round(self.inversion_steps / self.steps)}."
                )
        if self.inversion not in INVERSIONS:
            raise SettingsError(
                f"inversion must be one of {', '.join(INVERSIONS)}, got {self.inversion[:40]!r}."
            )
        if self.size is not None:
            for side in self.size if isinstance(self.size, tuple) else (self.size,):
                _check_range("size", side, 8, LARGEST_SIDE)
        _check_frames(*self.frames)
        if self.dtype not in DTYPES:
            raise SettingsError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy, which refuse read-only views."""
        return {**self.__dict__, **{name: dict(getattr(self, name)) for name in _OPTIONS}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, **{name: MappingProxyType(dict(state[name])) for name in _OPTIONS})

    @property
    def frame_range(self) -> str:
        """The frames as the command line writes them, for messages."""
        start, end = self.frames
        return f"{start}:{'' if end is None else end}"

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.update({name: dict(getattr(self, name)) for name in _OPTIONS})
        values["frames"] = list(self.frames)
        values["size"] = list(self.size) if isinstance(self.size, tuple) else self.size
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EditSettings":
        """Settings from what `to_json` gave, checked like any other input."""
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise SettingsError(
                f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}."
            )
        if "prompt" not in values:
            raise SettingsError("the settings have no prompt; add one.")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        _check_values(plain)
        if "guidance_scale" in plain:
            _check_range("guidance_scale", plain["guidance_scale"], 0.0, LARGEST_GUIDANCE)
            plain["guidance_scale"] = float(plain["guidance_scale"])  # JSON, and people, write 7 for 7.0
        return cls(**plain)


def with_options(
    kind: type[Settings], described: str, options: Mapping[str, OptionValue] | None = None
) -> Settings:
    """A dataclass of settings with some of them changed, as a command line or a file names them.

    `described` says whose they are ("host vidtome"). Raises: SettingsError for a name that it has not, or a value of
    another type than the field's.
    """
    options = dict(options or {})
    known = {one.name for one in dataclasses.fields(kind) if one.init}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(options.keys() - known):
        listed = f"its settings are: {', '.join(sorted(known))}" if known else "it has no settings"
        raise SettingsError(f"{described} has no setting {', '.join(unknown)}; {listed}.")
    kinds = get_type_hints(kind)
    name = described.rpartition(" ")[2]
    return kind(**{key: _as_kind(f"{name}.{key}", kinds[key], value) for key, value in options.items()})


def _as_kind(name: str, kind: type, value: object) -> object:
    """Accept 1 for a float; refuse what is of another type, so that nothing meets text where it counts."""
    if kind is float and _is_whole(value):
        return float(value)  # pyright: ignore[reportArgumentType]
    if type(value) is not kind:
        raise SettingsError(f"{name} must be of type {kind.__name__}, got {value!r}.")
    return value


def parse_frames(text: str, name: str = "--frames") -> tuple[int, int | None]:
    """`START:END`, either of which may be left out; `name` is what errors call it."""
    match = re.fullmatch(r"\s*(\d{0,12})\s*:\s*(\d{0,12})\s*", text, flags=re.ASCII)
    if match is None:
        raise SettingsError(f"{name} must be START:END, for example 0:16 or 8:, got {text[:40]!r}.")
    start, end = match.groups()
    return int(start or 0), int(end) if end else None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return (
        value is None
        or _is_whole(value)
        or (isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value)))
    )


def _is_range(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and _is_whole(value[0])
        and (value[1] is None or _is_whole(value[1]))
    )


def _is_options(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(option, OptionValue) for name, option in value.items()
    )


_KINDS = {
    "text": lambda value: isinstance(value, str),
    "a whole number": _is_whole,
    "a whole number or nothing": lambda value: value is None or _is_whole(value),
    "a number": lambda value: _is_whole(value) or isinstance(value, float),
    "true or false": lambda value: isinstance(value, bool),
    "a whole number or (width, height)": _is_size,
    "(first frame, frame after the last)": _is_range,
    "names with plain values": _is_options,
}
_KIND_OF = {
    "steps": "a whole number",
    "inversion_steps": "a whole number or nothing",
    "seed": "a whole number",
    "batch": "a whole number",
    "guidance_scale": "a number",
    "allow_truncated": "true or false",
    "size": "a whole number or (width, height)",
    "frames": "(first frame, frame after the last)",
    "host_options": "names with plain values",
    "inversion_options": "names with plain values",
}
_OPTIONS = ("host_options", "inversion_options")


def _check_values(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        kind = _KIND_OF.get(name, "text")
        if not _KINDS[kind](value):
            raise SettingsError(f"{name} must be {kind}, got {value!r}.")


def _check_types(settings: EditSettings) -> None:
    _check_values({f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)})


def _check_range(name: str, value: int | float, smallest: int | float, largest: int | float) -> None:
    # comparisons refuse NaN and infinity too, and integers of any length
    if not smallest <= value <= largest:
        raise SettingsError(f"{name} must be from {smallest} to {largest}, got {value}.")


def _check_text(name: str, text: str) -> None:
    # Control characters and lone surrogates come from broken quoting or hostile files, and tokenizers choke on them.
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            raise SettingsError(
                f"{name} contains the character U+{ord(character):04X}, which no text has; type it again without it."
            )


def _check_frames(start: int, end: int | None) -> None:
    if start < 0 or (end is not None and end <= start):
        wanted = "START:END with 0 <= START < END, counted from 0"
        raise SettingsError(f"frames must be {wanted}, got {start}:{'' if end is None else end}.")
