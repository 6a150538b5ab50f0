"""Everything that decides what comes out of an adapter's training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from evenreel.adapters.settings import ADAPTER, AdapterSettings, parse_window
from evenreel.adapters.window import TRAINING as PUBLISHED_WINDOW
from evenreel.adapters.window import Window
from evenreel.errors import SettingsError, argument
from evenreel.settings import NotEmpty, Option, OptionValue, Place, Range, settle
from evenreel.training.loop_settings import TRAINING, LoopSettings

EDITS, NOISE, LOOK = "Learning from edits", "Learning from noise", "Validation edits"


def parse_guidance(name: str, text: str) -> tuple[float, float]:
    """Read `LOW:HIGH`, or one number that is both."""
    low, found, high = text.partition(":")
    try:
        return float(low), float(high if found else low)
    except ValueError as error:
        raise SettingsError(
            f"{argument(name)} must be LOW:HIGH, for example 2:4, got {text[:40]!r}."
        ) from error


@dataclass(frozen=True, kw_only=True)
class EditLossSettings:
    """How edits are made in training, and what is minimised (`training.adapter.edits`)."""

    steps: Annotated[int, Range(1), Option(EDITS, name="edit_steps")] = 15
    """Sampling steps of an edit that the adapter learns from."""
    guidance_scale: Annotated[
        tuple[float, float],
        Range(0.0, 100.0),
        Option(EDITS, name="edit_guidance", metavar="LOW:HIGH", default="2:4", parse=parse_guidance),
    ] = (2.0, 4.0)
    """Guidance scales between which that of each edit is drawn."""
    host: Annotated[str, NotEmpty(), Option(EDITS, name="edit_host")] = "frame"
    """Host in which the edits that the adapter learns from are made; `evenreel hosts` lists them. What a host keeps
    from step to step begins anew at each of them."""
    host_options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    """Settings of the host that are not its defaults."""
    motion: Annotated[str, NotEmpty(), Option(EDITS, name="edit_motion")] = "auto"
    """Motion modules at work in the edits that the adapter learns from: `auto` (those packaged with the model), a
    folder, a name on the hub, or `off`."""
    answers: Annotated[Literal["known", "none", "cycle"], Option(EDITS, name="edit_answers")] = "known"
    """Right answers that the adapter is led to: `known`, those of rendered scenes; `none`, scenes are taken for clips,
    of which nothing is asked, and nothing must change; `cycle`, the model edits each clip to a caption of another one,
    and the way back is learnt."""
    window: Annotated[Window, Option(ADAPTER, name="window", metavar="START:END", parse=parse_window)] = (
        PUBLISHED_WINDOW
    )
    """Noise levels at which the adapter is at work, and learns."""
    weight_temporal: Annotated[float, Range(0.0), Option(TRAINING)] = 1.0
    """Weight of the temporal loss in the sum of losses: with edits, the error in how frames change, beside that of the
    frames themselves."""

    def __post_init__(self) -> None:
        settle(self)
        low, high = self.guidance_scale
        if low > high:
            raise SettingsError(f"guidance must be drawn from LOW:HIGH within 0 and 100, got {low}:{high}.")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What is minimised where noise is predicted (`training.adapter.noise`)."""

    temporal: Annotated[
        Literal["frames", "noise-levels", "source-anchored"],
        Option(NOISE, metavar="NAME"),
    ] = "source-anchored"
    """What the temporal loss compares: `frames`, the likeness of neighbouring frames along the clip (Eq. 4 of the
    GE-Adapter's paper); `noise-levels`, the same at two noise levels; `source-anchored`, that with the source's own."""
    weight_temporal: Annotated[float, Range(0.0), Option(TRAINING)] = 0.1
    """Weight of the temporal loss in the sum of losses."""
    weight_diffusion: Annotated[float, Range(0.0), Option(NOISE)] = 1.0
    """Weight of the error of the predicted noise in the sum of losses."""
    window: Annotated[Window, Option(ADAPTER, name="window", metavar="START:END", parse=parse_window)] = (
        PUBLISHED_WINDOW
    )
    """Noise levels at which the LoRA is at work."""
    noise_levels: Annotated[
        Window | None,
        Option(NOISE, metavar="START:END", default="those of the window", parse=parse_window),
    ] = None
    """Noise levels that are drawn in training, as shares from 0 (clean) to 1; outside of the window the LoRA rests, and
    prompt tokens learn alone."""
    gate: Annotated[float, Range(0.0, 1.0), Option(NOISE)] = 0.5
    """Share of the noise from which on the temporal loss counts (Eq. 19 of the GE-Adapter's paper)."""
    control: Annotated[str | None, NotEmpty(), Option(NOISE, metavar="NAME|FOLDER|FILE", default="none")] = (
        None
    )
    """ControlNet for depth that is at work while the adapter learns, as of `evenreel edit --control`; the data must
    have depth maps."""
    shared_noise: Annotated[float, Range(0.0, 1.0), Option(NOISE)] = 0.0
    """Share of the noise's variance that all frames of a group have in common (mixed noise, arXiv:2305.10474); at 0
    each has its own, as in the GE-Adapter's paper, and as measured better (docs/adapter.md)."""
    unconditional: Annotated[float, Range(0.0, 1.0), Option(NOISE)] = 0.1
    """Share of the captions that are left out, so that guidance works."""

    def __post_init__(self) -> None:
        settle(self)
        if not self.weight_temporal + self.weight_diffusion:
            raise SettingsError(
                f"{argument('weight_temporal')} and {argument('weight_diffusion')} must not both be 0, got 0 and 0."
            )


Objective: TypeAlias = EditLossSettings | LossSettings
"""What is minimised."""


@dataclass(frozen=True, kw_only=True)
class AdapterTrainingSettings:
    """The full settings of a training; `recipes` has measured and published ones by name.

    What is trained and what is minimised belong together, so neither has a default here.
    """

    model: Annotated[str, NotEmpty(), Option()] = "mini"
    """Model that the adapter is made for, as of `evenreel edit`."""
    clip: Annotated[str, NotEmpty(), Option()] = "mini"
    """CLIP whose vision tower looks at frames: `mini`, or a folder in transformers' layout."""
    loop: LoopSettings
    """Steps, learning rate, number type: how it is trained."""
    pairs: Annotated[int, Range(1), Option(TRAINING)] = 1
    """Groups of frames in a micro-batch."""
    seed: Annotated[int, Range(0), Option(TRAINING)] = 0
    """Number that all randomness follows from: weights, batches, noise and noise levels."""
    device: Annotated[str, NotEmpty(), Option(TRAINING)] = "auto"
    """Device to train on: auto, cpu, cuda, cuda:1 or mps."""
    adapter: AdapterSettings
    """What is trained, and where it will be at work."""
    loss: Objective
    """What is minimised: errors of edits, or of noise."""
    cache_bytes: int = 2**30
    """How many bytes of frozen encoders' work are kept."""
    licence: Annotated[str, NotEmpty("say under which licence the adapter comes"), Option(ADAPTER)] = (
        "Apache-2.0"
    )
    """Licence under which the adapter comes, in one line."""

    def __post_init__(self) -> None:
        settle(self)
        tokens = self.adapter.tokens
        turned = isinstance(self.loss, EditLossSettings) and self.loss.answers == "cycle"
        if turned and tokens is not None and tokens.select != "none":
            raise SettingsError(
                f"{argument('edit_answers')} cycle learns from clips that the model makes, of which there are no "
                f"tokens; give {argument('frame_tokens')} none."
            )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A clip that is edited with the adapter while it is trained, for people to look at."""

    prefix: ClassVar[str] = "validate"
    noun: ClassVar[str] = "a validation clip"

    clip: Annotated[Path, Place(), Option(LOOK, metavar="CLIP", default="none")]
    """Clip that is edited now and then, to see how far the training is; each edit becomes a film strip."""
    prompt: Annotated[str, NotEmpty("say what the edit shows, for example 'a blue car'"), Option(LOOK)]
    """What the edit of the validation clip shows."""
    source_prompt: Annotated[str, Option(LOOK)] = ""
    """What the validation clip shows."""
    host: Annotated[str, NotEmpty(), Option(LOOK)] = "vidtome"
    """Host of the edits of the validation clip; `evenreel hosts` lists them."""
    every: Annotated[int, Range(1), Option(LOOK)] = 250
    """Optimizer steps from one edit of the validation clip to the next."""
    steps: Annotated[int, Range(1, 1000), Option(LOOK)] = 20
    """Sampling steps of an edit of the validation clip."""
    frames: Annotated[int, Range(1, 1024), Option(LOOK)] = 8
    """Frames of the validation clip that are edited, the first ones."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Watching:
    """How a training is watched; nothing that comes out depends on it."""

    whose: ClassVar[str] = "a training"

    validate: Validation | None = None

    def __post_init__(self) -> None:
        settle(self)
