"""What an edit can be told beside what all runs can."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from evenreel.errors import SettingsError, argument
from evenreel.settings.kinds import (
    Before,
    NotEmpty,
    Option,
    OptionValue,
    Place,
    Range,
    check_range,
    cut_frames,
    parse_frames,
    parse_options,
)
from evenreel.settings.option_groups import (
    ALGORITHM,
    EDIT_STEPS,
    FRAMES,
    LARGEST_RATE,
    LARGEST_STEPS,
    MACHINE,
    PROMPTS,
    REGION,
    SOUND,
    STEPS,
)
from evenreel.settings.runs import AUTO_HOST, PROMPT_ADVICE, RunSettings
from evenreel.settings.schedule import Schedule
from evenreel.settings.uses import RegionUse

FAST: Mapping[str, Mapping[str, object]] = {
    "fast": {"steps": 20, "guidance_interval": (0.3, 1.0), "cache_interval": 2},
    "fastest": {"steps": 12, "guidance_interval": (0.3, 1.0), "cache_interval": 3},
}
"""What presets of edits tell (docs/performance.md)."""


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
    reuse_source: Annotated[bool, Option(MACHINE)] = False
    """For several prompts on one clip, with the host `frame`: what the model computes of the source does not depend on
    the prompt, so it is computed by itself and kept in the cache, and edits with other prompts take it from there."""
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
    region: tuple[RegionUse, ...] | None = None
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
        if self.remove and self.region:
            raise SettingsError(
                f"{argument('remove')} takes what it shows from other frames and no prompt has a part in it; leave "
                f"{argument('region')} out."
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

    def _be_fast(self, preset: str) -> None:
        """Fill in what a preset stands for, where nothing else is told. Raises: SettingsError."""
        if self.exact:
            raise SettingsError(
                f"{argument('preset')} {preset} and {argument('exact')} ask for opposite things; leave one of them out."
            )
        for name, value in FAST[preset].items():
            if getattr(self, name) == getattr(type(self), name):
                object.__setattr__(self, name, value)

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

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """What the clip shows, and then what each region does, from which frame on. Raises: SettingsError."""
        told = [("prompt", self.prompt), *(("region_prompt", use.prompt) for use in self.region or ())]
        return Schedule.all_of(told, self.prompt_glide, self.prompt_syntax)

    def check_changes(self, frames: int) -> None:
        """Raise SettingsError where a prompt changes behind the end of a clip."""
        for schedule in self.schedules:
            schedule.check(frames)

    def of_prompt(self, number: int) -> "EditSettings":
        """Return settings of the edit with one prompt alone: 0 is the clip's, n that of the n-th region."""
        prompt = self.prompt if not number else (self.region or ())[number - 1].prompt
        return replace(self, prompt=prompt, prompt_glide=self.schedules[number].glide, region=None)

    @property
    def schedule(self) -> Schedule:
        """What the clip shows, from which frame on. Raises: SettingsError."""
        return self.schedules[0]

    @property
    def mask_models(self) -> dict[str, str]:
        """Folders of models that make or follow masks, by the names of their settings; those that are given."""
        folders = {"mask_model": self.mask_model, "mask_words_model": self.mask_words_model}
        return {name: folder for name, folder in folders.items() if folder is not None}

    @property
    def followed(self) -> str | None:
        """Name of the setting that asks for a mask to be followed; None where none does."""
        if self.mask_words is not None:
            return "mask_words"
        return None if self.mask_frame is None else "mask_frame"

    def need_prompt(self) -> None:
        """Raise SettingsError where there is no prompt, which a mask that is carried or removed does without."""
        NotEmpty(PROMPT_ADVICE).check("prompt", self.prompt)
