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
    Formerly,
    NotEmpty,
    Option,
    OptionValue,
    Place,
    Range,
    Size,
    check_range,
    cut_frames,
    parse_files,
    parse_frames,
    parse_interval,
    parse_options,
    parse_size,
)
from evenreel.settings.reader import plain, read, settle
from evenreel.settings.schedule import Schedule

LARGEST_SEED = 2**32 - 1
"""PyTorch's generator on a CPU, which all noise is drawn with, takes no more bits: larger seeds would repeat others."""
LARGEST_STEPS = 1000
EDIT_STEPS = 25
"""Of an edit, where neither it nor the model says otherwise."""
LARGEST_GUIDANCE = 100.0
LARGEST_RATE = 1000.0
GUIDANCE, INTERVAL, STEPS = (
    "7.5; of SD-XL 5; of mini 2.5, in clips from text 4",
    "0:1; of mini in edits by the defaults 0.3:1",
    "25; of mini in edits by the defaults 20",
)
"""Defaults that the model decides, as help pages show them."""

PROMPTS, ALGORITHM, REGION, FRAMES, SOUND, MOTION, CONTROL, ADAPTER, MACHINE = (
    "Prompts",
    "Algorithm",
    "Region",
    "Frames",
    "Sound",
    "Motion",
    "ControlNet",
    "Adapter",
    "Machine",
)
"""Groups of options on help pages."""

PROMPT_ADVICE = "say what the clip shows, for example 'a blue car'"
AUTO_HOST = "auto"
"""The host that suits the model: the field's line says which."""

PACKAGED_CONTROLS = {f"mini-{kind}": kind for kind in ("canny", "depth", "pose")}
"""Names of the ControlNets that come with `mini`, and what each is shown."""
ADAPTER_PARTS = {
    "lora": frozenset({"lora"}),
    "shared": frozenset({"shared"}),
    "frames": frozenset({"frames"}),
    "tokens": frozenset({"shared", "frames"}),
}
"""Names of an adapter's parts, and what each stands for."""
Run = TypeVar("Run", bound="RunSettings")


@dataclass(frozen=True, kw_only=True)
class ControlUse:
    """How a ControlNet takes part.

    Examples:
        >>> edges = evenreel.ControlUse(model="lllyasviel/sd-controlnet-canny", scale=0.8)
        >>> evenreel.EditSettings(prompt="a blue star", control=(edges,)).to_json()["control_kind"]
        'canny'
    """

    prefix: ClassVar[str] = "control"
    noun: ClassVar[str] = "a ControlNet"

    model: Annotated[str, NotEmpty(), Place(), Option(CONTROL, metavar="NAME|FOLDER|FILE", default="none")]
    """ControlNet made for the model: a diffusers folder, one safetensors file, a name on the Hugging Face hub, or for
    the packaged model `mini-canny`, `mini-depth` or `mini-pose`; may be given several times."""
    kind: Annotated[
        Literal["canny", "depth", "pose", "as-is"],
        Formerly({"none": "as-is"}),
        Option(CONTROL),
    ] = "canny"
    """What the ControlNet is shown of every frame: `canny`, edges that evenreel finds in it; `depth` or `pose`, what
    a depth model or a pose model makes of it, and where none is named the frame itself, which must be such a map;
    `as-is`, the frame itself. Given once for all, or once for each, in their order."""
    scale: Annotated[float, Range(0.0, 10.0), Option(CONTROL, metavar="NUMBER")] = 1.0
    """How much the ControlNet counts; 0 is not at all. Given once for all, or once for each, in their order."""
    clip: Annotated[
        str | None, Place(), Option(CONTROL, metavar="CLIP", default="in an edit, its source")
    ] = None
    """Clip, or folder of images, whose frames the ControlNet is shown: one for each frame of the result. Given once for
    all, or once for each, in their order; in an edit an empty name is its source."""

    def __post_init__(self) -> None:
        settle(self)
        if (own := PACKAGED_CONTROLS.get(self.model)) is not None:
            if self.kind not in (own, "canny"):  # which is the default
                raise SettingsError(
                    f"{argument('control')} {self.model} is shown {own} maps, and {argument('control_kind')} is "
                    f"{self.kind}; leave {argument('control_kind')} out."
                )
            object.__setattr__(self, "kind", own)


@dataclass(frozen=True, kw_only=True)
class AdapterUse:
    """How an adapter takes part.

    Examples:
        >>> use = evenreel.AdapterUse(file="mine.safetensors", scale=0.5)
        >>> evenreel.EditSettings(prompt="a blue star", adapter=use).to_json()["adapter_scale"]
        0.5
    """

    prefix: ClassVar[str] = "adapter"
    noun: ClassVar[str] = "an adapter"

    file: Annotated[str, NotEmpty(), Place(or_packaged=True), Option(ADAPTER, metavar="FILE", default="none")]
    """Adapter file made for the model, by `evenreel train adapter` or `evenreel adapter import`."""
    scale: Annotated[float | None, Range(0.0, 10.0), Option(ADAPTER, default="as the file says")] = None
    """How much of the adapter's LoRA counts; 0 switches the adapter off."""
    window: Annotated[str | None, Option(ADAPTER, metavar="START:END", default="as the file says")] = None
    """Noise levels at which the adapter is at work, as shares from 0 (clean) to 1."""
    parts: Annotated[str | None, Option(ADAPTER, metavar="PART,PART", default="all that the file has")] = None
    """Parts of the adapter that are at work, with commas between them: `lora`; `shared`, its prompt tokens that all
    frames share; `frames`, its prompt tokens of each frame; `tokens`, both of these."""
    frame_weight: Annotated[float | None, Range(0.0, 100.0), Option(ADAPTER, default="as the file says")] = (
        None
    )
    """Number by which the adapter's prompt tokens of each frame are multiplied."""
    clip: Annotated[
        str | None, Place(or_packaged=True), Option(ADAPTER, metavar="FOLDER", default="as the file says")
    ] = None
    """Folder of the CLIP model that looks at frames for the adapter, where the adapter's file does not lead to it."""
    other_base: Annotated[bool, Option(ADAPTER)] = False
    """Use the adapter with a model, or a CLIP, that it was not made for."""
    fused: Annotated[bool, Option(ADAPTER)] = False
    """Add the adapter's LoRA to copies of the weights, which takes more memory and saves time."""
    as_published: Annotated[bool, Option(ADAPTER, flags=("--as-published",))] = False
    """Use the adapter as the GE-Adapter's paper does: at scale 0.5, in the window 0.9:1, and in edits with the
    inversion `bilateral` in the place of `flow-edit`; a scale or window that is given counts."""

    def __post_init__(self) -> None:
        settle(self)
        _ = self.parts_at_work
        if self.as_published:
            object.__setattr__(self, "scale", 0.5 if self.scale is None else self.scale)
            object.__setattr__(self, "window", self.window or "0.9:1")

    @property
    def parts_at_work(self) -> frozenset[str] | None:
        """Those of `lora`, `shared` and `frames` that are named; None for all that the file has. Raises:
        SettingsError."""
        if self.parts is None:
            return None
        named = [part.strip() for part in self.parts.split(",")]
        if strange := [part for part in named if part not in ADAPTER_PARTS]:
            raise SettingsError(
                f"{argument('adapter_parts')} must name parts out of {', '.join(ADAPTER_PARTS)}, got "
                f"{strange[0][:40]!r}."
            )
        return frozenset(one for part in named for one in ADAPTER_PARTS[part])


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
    cache_interval: Annotated[int, Range(1, LARGEST_STEPS), Option(ALGORITHM)] = 1
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
    `mixed`. Steps, guidance interval and number type still count where they are given."""
    batch: Annotated[int, Range(1, 4096), Option(MACHINE)] = 8
    """Frames that pass through the model together; fewer need less memory. With the host `vidtome`, in a small measure
    also with `tokenflow` and `vid2vid_zero`, the result depends on it, as it says which frames see each other."""

    preset: Annotated[Literal["low-memory"] | None, Option(MACHINE, default="none")] = None
    """How memory is used: with `low-memory`, parts of the model lie on the GPU only while they work, the autoencoder
    computes large frames in pieces, and one frame passes at a time unless `--batch` is another number than 8."""

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
        _ = self.schedule
        self._check_maps()
        if self.guidance_interval is not None:
            start, end = self.guidance_interval
            if not 0 <= start <= end <= 1:
                wanted = "START:END with 0 <= START <= END <= 1"
                raise SettingsError(
                    f"{argument('guidance_interval')} must be {wanted}, got {start:g}:{end:g}."
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
class EditSettings(RunSettings):
    """Everything that decides what an edit looks like; the defaults are those of the command line.

    A field that cannot be is an error at once, and `dataclasses.replace` makes other settings of these.

    Examples:
        >>> evenreel.EditSettings(prompt="a blue star", host="tokenflow", frames=(0, 16)).batch
        8
        >>> evenreel.EditSettings(prompt="a blue star", steps=0)
        Traceback (most recent call last):
        evenreel.errors.SettingsError: steps must be from 1 to 1000, got 0.
    """

    whose: ClassVar[str] = "an edit"
    usual_host: ClassVar[str] = "vidtome"

    prompt: Annotated[str, Option(flags=("--prompt", "-p"))] = ""
    """What the result shows. It may change along the clip, as in "0: a red circle | 24: a blue star", where frames are
    counted from the first one of the result."""
    source_prompt: Annotated[str, Option(PROMPTS)] = ""
    """What the source clip shows; it helps to keep things as and where they are, and may stay empty."""
    host: Annotated[str, NotEmpty(), Option(ALGORITHM)] = AUTO_HOST
    """Algorithm that keeps frames consistent; `evenreel hosts` lists them. `auto` is `frame` where motion modules are
    at work, else `vidtome`."""
    steps: Annotated[
        int | None,
        Range(1, LARGEST_STEPS),
        Before(EDIT_STEPS),
        Option(ALGORITHM, default=STEPS),
    ] = None
    """Denoising steps; more of them are slower and finer."""
    inversion: Annotated[str, NotEmpty(), Before("ddim"), Option(ALGORITHM)] = "flow-edit"
    """Way from the source to the noise that the edit starts from; `evenreel inversions` lists them."""
    inversion_options: Annotated[
        Mapping[str, OptionValue],
        Option(ALGORITHM, metavar="KEY=VALUE", flags=("--inversion-option",), parse=parse_options),
    ] = field(default_factory=dict[str, OptionValue])
    """Setting of the inversion, by name; `evenreel inversions NAME` lists them with their defaults."""
    inversion_steps: Annotated[int | None, Option(ALGORITHM, default="as many as of denoising")] = None
    """Noising steps of `bilateral`, `ddim` and `null-text`: a multiple of the denoising steps."""
    keep: Annotated[Literal["auto", "off"], Before("off"), Option(REGION)] = "auto"
    """What of the source stays as it is: `auto`, all that the change from the source prompt to the prompt does not
    concern, as the model sees it; `off`, nothing. Without a source prompt, with a LoRA or with a ControlNet `auto`
    keeps nothing, since the prompts do not say what changes."""
    mask: Annotated[str | None, Place(), Option(REGION, metavar="FILE", default="none")] = None
    """Picture, or clip with as many frames, as large as the source and white where it is to be edited; all else stays
    the source, whatever `--keep` says. `evenreel mask` makes one."""
    mask_frame: Annotated[int | None, Range(0, 10_000_000), Option(REGION, default="none")] = None
    """Number, from 0, of the frame of the clip on which the mask was painted. What is painted there is followed to the
    frames before and after, as far as its scene goes; without it a picture is the mask of all frames."""
    mask_model: Annotated[str | None, Place(), Option(REGION, metavar="FOLDER", default="none")] = None
    """Folder of a SAM 2 for clips, in transformers' layout. It follows the mask from its frame, in the place of
    evenreel's own estimate of motion."""
    mask_words: Annotated[
        str | None, NotEmpty("say what the mask is to hold"), Option(REGION, metavar="TEXT", default="none")
    ] = None
    """What the mask is to hold, in words, as in "the dog": a model finds it in each scene and it is followed from
    there. Its folder is `--mask-words-model`. With `--mask-frame` it is looked for on that frame alone."""
    mask_words_model: Annotated[str | None, Place(), Option(REGION, metavar="FOLDER", default="none")] = None
    """Folder of the model that finds `--mask-words`: a CLIPSeg in transformers' layout."""
    mask_words_threshold: Annotated[float, Range(0.0, 1.0), Option(REGION)] = 0.5
    """How sure that model must be of a place, from 0 to 1, for the place to belong to the mask."""
    remove: Annotated[bool, Option(REGION)] = False
    """Take what the mask shows out of the clip, and fill its place with what other frames show there. Without a mask
    that is where the source prompt, which names the thing, and the prompt, which does not, differ."""
    strength: Annotated[float, Range(0.0, 1.0), Before(1.0), Option(PROMPTS)] = 1.0
    """How far the edit may go from the source, as the share of the denoising steps that it takes, the least noisy ones:
    at 0 the source stays, as the model's autoencoder shows it."""
    frames: Annotated[
        tuple[int, int | None], Option(FRAMES, metavar="START:END", default="all", parse=parse_frames)
    ] = (0, None)
    """Frames to edit, counted from 0: the first one, and the one after the last."""
    cuts: Annotated[str, Before("none"), Option(FRAMES, metavar="auto|none|N,N,...")] = "auto"
    """Where another scene begins, so that nothing passes from one to the next: `auto` finds sudden changes of the whole
    picture; numbers name frames of the clip, counted from 0, as in 0,48,120; `none` takes the clip for one scene."""
    cut_threshold: Annotated[float, Range(0.0, 255.0), Option(FRAMES)] = 18.0
    """Mean change of hue, saturation and brightness from which a frame may begin another scene, in levels from 0 to
    255."""
    allow_truncated: Annotated[bool, Option(FRAMES)] = False
    """Edit what can be read of a clip that is cut short."""
    allow_damaged: Annotated[bool, Option(FRAMES)] = False
    """Edit what can be read of a clip that is damaged or cut short; the record lists the damaged frames."""
    fps: Annotated[float | None, Range(0.01, LARGEST_RATE), Option(FRAMES, default="8")] = None
    """Frames per second of a folder of images, which has no rate of its own."""
    sound: Annotated[Literal["copy", "encode", "none"], Option(SOUND)] = "copy"
    """What becomes of the sound: `copy` carries it over as it is where the result can hold it, and encodes it again
    where not; `encode` always encodes it again; `none` leaves it out."""
    sound_track: Annotated[
        int | None, Range(1, 100), Option(SOUND, default="the one that players choose")
    ] = None
    """Sound track to carry over, counted from 1; `evenreel info` lists them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_frame is None and self.mask_words is None and not (self.remove and self.has_mask):
            self.need_prompt()
        if self.remove and not self.has_mask and not self.source_prompt.strip():
            raise SettingsError(
                f"{argument('remove')} needs to know what is to go; give {argument('mask')}, or "
                f"{argument('source_prompt')} with it and {argument('prompt')} without it."
            )
        if self.adapter is not None and self.adapter.as_published and self.inversion == "flow-edit":
            object.__setattr__(self, "inversion", "bilateral")
        if self.inversion_steps is not None:
            steps = self.steps or EDIT_STEPS
            check_range("inversion_steps", self.inversion_steps, steps, LARGEST_STEPS)
            if self.inversion_steps % steps:
                raise SettingsError(
                    f"{argument('inversion_steps')} must be a multiple of {argument('steps')} ({steps}), got "
                    f"{self.inversion_steps}; try {steps * round(self.inversion_steps / steps)}."
                )
        self._check_masks()
        if cut_frames(self.cuts) is not None and self.cut_threshold != type(self).cut_threshold:
            raise SettingsError(
                f"{argument('cut_threshold')} has no effect unless {argument('cuts')} is auto; leave it out."
            )
        start, end = self.frames
        if start < 0 or (end is not None and end <= start):
            wanted = "START:END with 0 <= START < END, counted from 0"
            shown = f"{start}:{'' if end is None else end}"
            raise SettingsError(f"{argument('frames')} must be {wanted}, got {shown}.")
        if (painted := self.mask_frame) is not None and not start <= painted < (end or painted + 1):
            shown = f"{start}:{'' if end is None else end}"
            raise SettingsError(
                f"{argument('mask_frame')} is {painted}, and frames {shown} are edited; paint the mask on one of these."
            )

    @property
    def has_mask(self) -> bool:
        """Whether a mask says where the clip is edited, a picture's or that of words."""
        return self.mask is not None or self.mask_words is not None

    def _check_masks(self) -> None:
        if self.mask_frame is not None and not self.has_mask:
            raise SettingsError(
                f"{argument('mask_frame')} says on which frame {argument('mask')} was painted, and there is none; name "
                "the picture."
            )
        if self.mask is not None and self.mask_words is not None:
            raise SettingsError(
                f"{argument('mask')} and {argument('mask_words')} both say where to edit; leave one of them out."
            )
        if (self.mask_words is None) != (self.mask_words_model is None):
            told, lacks = ("mask_words", "mask_words_model")[:: 1 if self.mask_words else -1]
            raise SettingsError(
                f"{argument(told)} and {argument('mask_words_model')} go together; give {argument(lacks)} too."
                if told == "mask_words"
                else f"{argument(told)} finds what {argument(lacks)} says, and there is none; say what it is to find."
            )
        if self.mask_words is None and self.mask_words_threshold != type(self).mask_words_threshold:
            raise SettingsError(
                f"{argument('mask_words_threshold')} has no effect without {argument('mask_words')}."
            )
        if self.mask_model is not None and self.mask_words is None and self.mask_frame is None:
            raise SettingsError(
                f"{argument('mask_model')} follows a mask from the frame it was painted on; name that with "
                f"{argument('mask_frame')}."
            )

    def need_prompt(self) -> None:
        """Raise SettingsError where there is no prompt, which a mask that is carried or removed does without."""
        NotEmpty(PROMPT_ADVICE).check("prompt", self.prompt)


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
