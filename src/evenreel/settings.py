"""What an edit, and a clip made from text, can be told: frozen, self-checking dataclasses that travel through JSON."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, get_type_hints

from evenreel.errors import SettingsError
from evenreel.settings_checks import KINDS, OptionValue, check_named, check_range, check_text, is_whole

LARGEST_SEED = 2**63 - 1
LARGEST_STEPS = 1000
LARGEST_SIDE = 8192
LARGEST_GUIDANCE = 100.0
LARGEST_CONTROL = 10.0
LARGEST_ADAPTER = 10.0
LARGEST_CLIP = 100_000
LARGEST_RATE = 1000.0
DTYPES = ("auto", "float32", "float16", "bfloat16")
INVERSIONS = ("bilateral", "ddim", "ddpm", "fixed-point", "null-text")
CONTROL_KINDS = ("canny", "depth", "none")

Settings = TypeVar("Settings")
Run = TypeVar("Run", bound="RunSettings")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What an edit and a clip made from text have in common."""

    kinds: ClassVar[Mapping[str, str]] = {
        "steps": "a whole number",
        "seed": "a whole number",
        "batch": "a whole number",
        "guidance_scale": "a number or nothing",
        "control_scale": "a number",
        "adapter_scale": "a number or nothing",
        "adapter_fused": "true or false",
        "size": "a whole number or (width, height)",
        "host_options": "names with plain values",
    }
    """What fields hold, where that is not text."""

    prompt: str
    """What the clip shows, at most 77 tokens of the model's tokenizer."""
    negative_prompt: str = ""
    """What the clip must not show."""
    model: str = "mini"
    """`mini` (packaged), a diffusers folder, or a name on the Hugging Face hub."""
    host: str
    """The algorithm that keeps frames consistent; `evenreel hosts` lists them."""
    host_options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Settings of that host, by name; `evenreel hosts NAME` lists them with their defaults."""
    steps: int
    """Denoising steps."""
    guidance_scale: float | None = None
    """How strongly the prompt pulls; 1 switches guidance off. None: as is best for the model (`Backbone.guidance`)."""
    seed: int = 0
    """Where all randomness starts; the same seed repeats a clip bit for bit on the same machine."""
    size: int | tuple[int, int] | None = None
    """Size at which the model works: the shorter side, or (width, height); None: the model's own. The result of an edit
    always has the size of the source."""
    control: str = ""
    """A ControlNet made for the model: a diffusers folder, or a name on the hub; empty for none."""
    control_kind: str = "canny"
    """What the ControlNet is shown of every frame: `canny`, its edges; `depth` and `none`, the frame as it is, for maps
    that are ready-made."""
    control_scale: float = 1.0
    """How much of the ControlNet counts."""
    control_clip: str = ""
    """The clip whose frames the ControlNet is shown; empty for those of the source."""
    adapter: str = ""
    """An adapter file made for the model, or `mini`, which is packaged (docs/adapter.md); empty for none."""
    adapter_scale: float | None = None
    """How much of its LoRA counts; 0 is none of the adapter. None: as the file says."""
    adapter_window: str = ""
    """Noise levels at which it is at work, START:END as shares from 0 (clean) to 1; empty: as the file says."""
    adapter_fused: bool = False
    """Add its LoRA to copies of the weights: more memory, no time."""
    batch: int = 8
    """Frames that pass through the model together; less needs less memory."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: str = "auto"
    """Number type of the model: `auto` (float16 on a GPU, else float32), `float32`, `float16` or `bfloat16`."""

    def __post_init__(self) -> None:
        self._check_values({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        # A private, read-only copy: settings that are frozen must not change through the caller's dictionary.
        for name, value in self._options().items():
            object.__setattr__(self, name, MappingProxyType(value))
        if not self.prompt.strip():
            raise SettingsError(
                "prompt is empty; say what the clip shows, for example --prompt 'a blue car'."
            )
        for name in ("prompt", "negative_prompt", "control", "control_clip", "adapter", "adapter_window"):
            check_text(name, getattr(self, name))
        for name in ("model", "host", "device"):
            check_named(name, getattr(self, name))
        check_range("steps", self.steps, 1, LARGEST_STEPS)
        check_range("seed", self.seed, 0, LARGEST_SEED)
        check_range("batch", self.batch, 1, 4096)
        if self.guidance_scale is not None:
            check_range("guidance_scale", self.guidance_scale, 0.0, LARGEST_GUIDANCE)
        if self.size is not None:
            for side in self.size if isinstance(self.size, tuple) else (self.size,):
                check_range("size", side, 8, LARGEST_SIDE)
        if self.dtype not in DTYPES:
            raise SettingsError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if self.adapter_scale is not None:
            check_range("adapter_scale", self.adapter_scale, 0.0, LARGEST_ADAPTER)
        told = self.adapter_scale is not None or self.adapter_window or self.adapter_fused
        if told and not self.adapter:
            raise SettingsError(
                "adapter settings are for an adapter; name its file with adapter, or leave them out."
            )
        self._check_control()

    def _check_control(self) -> None:
        check_range("control_scale", self.control_scale, 0.0, LARGEST_CONTROL)
        if self.control_kind not in CONTROL_KINDS:
            raise SettingsError(
                f"control_kind must be one of {', '.join(CONTROL_KINDS)}, got {self.control_kind[:40]!r}."
            )
        if self.control_clip and not self.control:
            raise SettingsError("control_clip is for a ControlNet; name one with control, or leave it out.")
        if self.control and self.control_kind == "depth" and not self.control_clip:
            raise SettingsError(
                "control_kind depth needs a clip of depth maps, which evenreel cannot make itself; "
                "name one with control_clip."
            )

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy, which refuse read-only views."""
        return {**self.__dict__, **self._options()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.update({name: MappingProxyType(value) for name, value in self._options().items()})

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**values, **self._options()}

    @classmethod
    def from_json(cls: type[Run], values: Mapping[str, Any]) -> Run:
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
        cls._check_values(plain)
        numbers = {name for name, kind in cls.kinds.items() if kind.startswith("a number")}
        for name in plain.keys() & numbers:
            if plain[name] is None:
                continue
            check_range(name, plain[name], 0.0, LARGEST_RATE)  # also what is too large for a float
            plain[name] = float(plain[name])  # JSON, and people, write 7 for 7.0
        return cls(**plain)

    @classmethod
    def _check_values(cls, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            kind = cls.kinds.get(name, "text")
            if not KINDS[kind](value):
                raise SettingsError(f"{name} must be {kind}, got {value!r}.")

    def _options(self) -> dict[str, dict[str, OptionValue]]:
        kind = "names with plain values"
        return {name: dict(getattr(self, name)) for name, kept in self.kinds.items() if kept == kind}


@dataclass(frozen=True, kw_only=True)
class EditSettings(RunSettings):
    """Everything that decides what an edit looks like; the defaults are those of the command line."""

    kinds: ClassVar[Mapping[str, str]] = {
        **RunSettings.kinds,
        "inversion_steps": "a whole number or nothing",
        "inversion_options": "names with plain values",
        "frames": "(first frame, frame after the last)",
        "allow_truncated": "true or false",
    }

    host: str = "vidtome"
    steps: int = 25
    source_prompt: str = ""
    """What the source clip shows; guides the inversion, and may stay empty."""
    inversion: str = "fixed-point"
    """How the source becomes noise: `bilateral`, `ddim`, `ddpm`, `fixed-point` or `null-text`."""
    inversion_options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Settings of that inversion, by name; docs/inversions.md lists them with their defaults."""
    inversion_steps: int | None = None
    """Noising steps of `bilateral`, `ddim` and `null-text`, a multiple of `steps`. None: as many as `steps`."""
    frames: tuple[int, int | None] = (0, None)
    """First frame, and the one after the last (None: the end of the clip)."""
    allow_truncated: bool = False
    """Edit what can be read of a clip that is cut short."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("source_prompt", self.source_prompt)
        if self.inversion_steps is not None:
            check_range("inversion_steps", self.inversion_steps, self.steps, LARGEST_STEPS)
            if self.inversion_steps % self.steps:
                raise SettingsError(
                    f"inversion_steps must be a multiple of steps ({self.steps}), got {self.inversion_steps}; "
                    f"try {self.steps * round(self.inversion_steps / self.steps)}."
                )
        if self.inversion not in INVERSIONS:
            raise SettingsError(
                f"inversion must be one of {', '.join(INVERSIONS)}, got {self.inversion[:40]!r}."
            )
        start, end = self.frames
        if start < 0 or (end is not None and end <= start):
            wanted = "START:END with 0 <= START < END, counted from 0"
            raise SettingsError(f"frames must be {wanted}, got {self.frame_range}.")

    @property
    def frame_range(self) -> str:
        """The frames as the command line writes them, for messages."""
        start, end = self.frames
        return f"{start}:{'' if end is None else end}"


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(RunSettings):
    """Everything that decides what a clip made from text looks like; the defaults are those of the command line."""

    kinds: ClassVar[Mapping[str, str]] = {
        **RunSettings.kinds,
        "frames": "a whole number",
        "fps": "a number",
    }

    host: str = "text2video_zero"
    steps: int = 50
    frames: int = 8
    """Frames to make."""
    fps: float = 8.0
    """Frames a second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("frames", self.frames, 1, LARGEST_CLIP)
        check_range("fps", self.fps, 0.01, LARGEST_RATE)
        if self.control and not self.control_clip:
            raise SettingsError(
                "a ControlNet needs something to be shown, and there is no source; name a clip with control_clip."
            )

    @property
    def rate(self) -> Fraction:
        """Frames a second, as exactly as it was written."""
        return Fraction(str(self.fps))


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
    if kind is float and is_whole(value):
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
