"""What an edit, and a clip made from text, can be told.

A field is everything: its type is checked, its default holds everywhere, and the string below it is what `--help` says.
It is an option of the command line, a keyword in Python and a line of every record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from evenreel.errors import SettingsError, argument
from evenreel.settings.kinds import (
    Before,
    NotEmpty,
    Option,
    OptionValue,
    Place,
    Range,
    Size,
    parse_files,
    parse_interval,
    parse_options,
    parse_size,
)
from evenreel.settings.option_groups import (
    ALGORITHM,
    CONTROL,
    FRAMES,
    GUIDANCE,
    INTERVAL,
    LARGEST_GUIDANCE,
    LARGEST_RATE,
    LARGEST_SEED,
    LARGEST_STEPS,
    MACHINE,
    MOTION,
    PROMPTS,
)
from evenreel.settings.reader import plain, read, settle
from evenreel.settings.schedule import Schedule
from evenreel.settings.uses import PACKAGED_CONTROLS, AdapterUse, ControlUse

PROMPT_ADVICE = "say what the clip shows, for example 'a blue car'"
AUTO_HOST = "auto"
"""The host that suits the model: the field's line says which."""

Run = TypeVar("Run", bound="RunSettings")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What an edit and a clip made from text have in common."""

    whose: ClassVar[str]
    """Whose settings these are, for errors."""
    usual_host: ClassVar[str]
    """The host that `auto` is where no motion modules are at work."""

    prompt: Annotated[str, NotEmpty(PROMPT_ADVICE), Option(flags=("--prompt", "-p"))]
    """What the result shows. It may change along the clip, as in "0: a red circle | 24: a blue star", where frames are
    counted from the first one of the result."""
    prompt_glide: Annotated[int, Range(0, 100_000), Option(PROMPTS)] = 0
    """Frames before each change of the prompt in which the earlier one gives way to the later one."""
    negative_prompt: Annotated[str, Option(PROMPTS)] = ""
    """What the result must not show."""
    guidance_scale: Annotated[
        float | None, Range(0.0, LARGEST_GUIDANCE), Option(PROMPTS, default=GUIDANCE)
    ] = None
    """How strongly the prompt pulls; 1 switches guidance off."""
    guidance_interval: Annotated[
        tuple[float, float] | None,
        Before((0.0, 1.0)),
        Option(PROMPTS, metavar="START:END", default=INTERVAL, parse=parse_interval),
    ] = None
    """Noise levels at which guidance is at work, as shares from 0 (clean) to 1; at others there is none, which is
    faster."""
    model: Annotated[str, NotEmpty(), Place(or_packaged=True), Option(ALGORITHM)] = "mini"
    """Model to use: `mini` (packaged), a checkpoint in one safetensors file, a diffusers folder, or the name of a
    Stable Diffusion 1.x, 2.x or XL on the Hugging Face hub."""
    vae: Annotated[str | None, Place(), Option(ALGORITHM, default="the model's own")] = None
    """Autoencoder in the place of the model's own: a diffusers folder, or one safetensors file."""
    clip_skip: Annotated[int | None, Range(1, 64), Option(ALGORITHM, default="1, the last layer")] = None
    """Layer of the text encoder whose output is taken, counted backwards from the last, which is 1."""
    tokenizer: Annotated[str | None, Place(), Option(ALGORITHM, metavar="FOLDER", default="CLIP's")] = None
    """Folder of the tokenizer, for a checkpoint in one file that was made with another one than CLIP's."""
    prediction_type: Annotated[
        Literal["epsilon", "v_prediction"] | None,
        Option(ALGORITHM, metavar="NAME", default="as the file says"),
    ] = None
    """What a checkpoint in one file predicts, noise (`epsilon`) or `v_prediction`, where it does not say so itself."""
    lora: Annotated[
        tuple[str, ...] | None,
        Place(),
        Option(ALGORITHM, metavar="FILE[:WEIGHT]", default="none", parse=parse_files),
    ] = None
    """LoRA made for the model, and how much of it counts; may be given several times."""
    embedding: Annotated[
        tuple[str, ...] | None,
        Place(),
        Option(PROMPTS, metavar="FILE[:WORD]", default="none", parse=parse_files),
    ] = None
    """Embedding (textual inversion), and the word that stands for it in prompts; may be given several times."""
    prompt_syntax: Annotated[
        Literal["weights", "plain"] | None, Before("plain"), Option(PROMPTS, default="weights")
    ] = None
    """How prompts are read: `weights`, where (word:1.3), (word), [word] and BREAK have a meaning, or `plain`, to the
    letter."""
    host: Annotated[str, NotEmpty(), Option(ALGORITHM)]
    """Algorithm that keeps frames consistent; `evenreel hosts` lists them."""
    host_options: Annotated[
        Mapping[str, OptionValue],
        Option(ALGORITHM, metavar="KEY=VALUE", flags=("--host-option",), parse=parse_options),
    ] = field(default_factory=dict[str, OptionValue])
    """Setting of the host, by name; `evenreel hosts NAME` lists them with their defaults."""
    steps: int | None
    cache_interval: Annotated[int, Range(1, LARGEST_STEPS), Before(1), Option(ALGORITHM)] = 1
    """Steps in a row that share the deep features of the noise predictor (DeepCache): with 2 every other step computes
    a tenth of it and takes the rest from the step before, faster and a little less well; with 1 each computes all."""
    seed: Annotated[int, Range(0, LARGEST_SEED), Option(ALGORITHM)] = 0
    """Number that all randomness follows from; the same seed repeats a clip bit for bit on the same machine."""
    size: Annotated[Size, Option(FRAMES, metavar="SIDE|WxH", default="the model's own", parse=parse_size)] = (
        None
    )
    """Size at which the model works, in pixels: the shorter side, or width and height."""
    control: tuple[ControlUse, ...] | None = None
    depth_model: Annotated[str | None, Place(), Option(CONTROL, metavar="FOLDER", default="none")] = None
    """Depth Anything that makes depth of the frames that a ControlNet of kind `depth` is shown."""
    pose_model: Annotated[str | None, Place(), Option(CONTROL, metavar="FOLDER", default="none")] = None
    """ViTPose that makes poses of the frames that a ControlNet of kind `pose` is shown."""
    person_detector: Annotated[
        str | None, Place(), Option(CONTROL, metavar="FOLDER", default="the whole frame")
    ] = None
    """RT-DETR that tells the pose model where people are."""
    adapter: AdapterUse | None = None
    motion: Annotated[
        str,
        NotEmpty(),
        Before("off"),
        Place(or_packaged=True),
        Option(MOTION, metavar="auto|NAME|FILE|off"),
    ] = "auto"
    """Motion modules that let frames agree: `auto` (those packaged for the model, if any), `mini`, a file as
    AnimateDiff has it, a diffusers MotionAdapter folder, a name on the Hugging Face hub, or `off`."""
    motion_window: Annotated[int, Range(2, 1024), Option(MOTION)] = 16
    """Frames that motion modules see together; longer clips pass in overlapping windows of so many."""
    device: Annotated[str, NotEmpty(), Option(MACHINE)] = "auto"
    """Device to compute on: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16", "mixed"], Option(MACHINE, metavar="TYPE")
    ] = "auto"
    """Number type of the model: `float32`, `float16`, `bfloat16`, `mixed` (float32, but for the noise predictor's
    convolutions and matrix products, in bfloat16), or `auto`: float16 on a GPU, and on a CPU float32, or `mixed` for
    edits with the host `frame` where that is measured to be clearly faster."""
    exact: Annotated[bool, Option(MACHINE)] = False
    """Compute as published, without what saves time and changes numbers: edits in 25 steps, guidance throughout, no
    `mixed`. Steps, guidance interval, cache interval and number type still count where they are given."""
    batch: Annotated[int, Range(1, 4096), Option(MACHINE)] = 8
    """Frames that pass through the model together; fewer need less memory. With the host `vidtome`, in a small measure
    also with `tokenflow` and `vid2vid_zero`, the result depends on it, as it says which frames see each other."""

    preset: Annotated[Literal["low-memory", "fast", "fastest"] | None, Option(MACHINE, default="none")] = None
    """Several settings in a word. `low-memory`: parts of the model lie on the GPU only while they work, the autoencoder
    computes large frames in pieces, and one frame passes at a time unless `--batch` is another number than 8. `fast`,
    for a quick look at an edit: 20 steps, guidance at noise levels 0.3:1, and features shared by two steps. `fastest`,
    for edits in other hosts than `frame`: 12 steps, the same guidance, and features shared by three steps. A setting
    that is given beside these counts instead (a cache interval of 1, the default, counts as not given);
    docs/performance.md says what they cost."""

    def __post_init__(self) -> None:
        settle(self)
        if self.preset == "low-memory":
            if self.adapter is not None and self.adapter.fused:
                raise SettingsError(
                    f"{argument('adapter_fused')} keeps weights twice, which {argument('preset')} low-memory has no "
                    "room for; leave one of them out."
                )
            if self.batch == type(self).batch:
                object.__setattr__(self, "batch", 1)
        if self.preset in ("fast", "fastest"):
            self._be_fast(self.preset)
        _ = self.schedule
        self._check_maps()
        if self.guidance_interval is not None:
            start, end = self.guidance_interval
            if not 0 <= start <= end <= 1:
                wanted = "START:END with 0 <= START <= END <= 1"
                raise SettingsError(
                    f"{argument('guidance_interval')} must be {wanted}, got {start:g}:{end:g}."
                )

    def _be_fast(self, preset: str) -> None:
        """Fill in what a preset stands for. Raises: SettingsError where it cannot be."""
        raise SettingsError(
            f"{argument('preset')} {preset} was measured in edits alone; leave it out in {self.whose}."
        )

    def _check_maps(self) -> None:
        """Raise SettingsError where a ControlNet lacks maps, or a model that makes them lacks a ControlNet."""
        uses = self.control or ()
        for kind, model in (("depth", self.depth_model), ("pose", self.pose_model)):
            mine = [use for use in uses if use.kind == kind]
            if model is not None and not mine:
                raise SettingsError(
                    f"{argument(f'{kind}_model')} makes maps for a {argument('control')} of kind {kind}, and there is "
                    "none; name one, or leave it out."
                )
            if (bare := next((use for use in mine if not use.clip), None)) and model is None:
                packaged = bare.model in PACKAGED_CONTROLS
                told = (
                    f"{argument('control')} {bare.model}"
                    if packaged
                    else f"{argument('control_kind')} {kind}"
                )
                raise SettingsError(
                    f"{told} needs {kind} maps; name a model that makes them with {argument(f'{kind}_model')}, or a "
                    f"clip of maps with {argument('control_clip')}."
                )
        if self.person_detector is not None and self.pose_model is None:
            raise SettingsError(
                f"{argument('person_detector')} goes with {argument('pose_model')} only; name both or none."
            )

    @property
    def schedule(self) -> Schedule:
        """What the clip shows, from which frame on. Raises: SettingsError."""
        return Schedule.of(self.prompt, self.prompt_glide, self.prompt_syntax)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, flat."""
        return plain(self)

    @classmethod
    def from_json(cls: type[Run], values: Mapping[str, Any]) -> Run:
        """Make settings from plain values, written flat or not. Raises: SettingsError."""
        return read(cls, values, cls.whose)


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(RunSettings):
    """Everything that decides what a clip made from text looks like; the defaults are those of the command line.

    Examples:
        >>> evenreel.GenerateSettings(prompt="a red circle", frames=16).rate
        Fraction(8, 1)
    """

    whose: ClassVar[str] = "a clip made from text"
    usual_host: ClassVar[str] = "text2video_zero"

    host: Annotated[str, NotEmpty(), Option(ALGORITHM)] = AUTO_HOST
    """Algorithm that keeps frames consistent; `evenreel hosts` lists them. `auto` is `frame` where motion modules are
    at work, else `text2video_zero`. `tokenflow` cannot work without a source."""
    steps: Annotated[int, Range(1, LARGEST_STEPS), Option(ALGORITHM)] = 50
    """Denoising steps; more of them are slower and finer."""
    size: Annotated[Size, Option(FRAMES, metavar="SIDE|WxH", default="the model's own", parse=parse_size)] = (
        None
    )
    """Size of the clip in pixels: width and height, or the shorter side of a square, or of the shape of the control's
    clip."""
    frames: Annotated[int, Range(1, 100_000), Option(FRAMES)] = 8
    """Number of frames to make."""
    fps: Annotated[float, Range(0.01, LARGEST_RATE), Option(FRAMES)] = 8.0
    """Frames per second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not use.clip for use in self.control or ()):
            raise SettingsError(
                "a ControlNet needs something to be shown, and there is no source; "
                f"name a clip with {argument('control_clip')}."
            )

    @property
    def rate(self) -> Fraction:
        """Frames a second, as exactly as it was written."""
        return Fraction(str(self.fps))
