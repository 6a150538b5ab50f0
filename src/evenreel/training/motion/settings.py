"""Everything that decides what comes out of a training of motion modules."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from evenreel.errors import SettingsError, argument
from evenreel.settings import NotEmpty, Option, Range, settle
from evenreel.settings.changes import changed
from evenreel.settings.kinds import refuse
from evenreel.training.loop_settings import TRAINING, LoopSettings, lasting

MODULES = "Motion modules"


def parse_strides(name: str, told: list[str]) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    text = ",".join(told)
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        refuse(name, "whole numbers, comma-separated, for example 1,2", text)


@dataclass(frozen=True, kw_only=True)
class MotionTrainingSettings:
    """The full settings of a training. Learning rate and weighting follow AnimateDiff (arXiv:2307.04725)."""

    model: Annotated[str, NotEmpty(), Option()] = "mini"
    """Model that the modules are made for, as of `evenreel edit`; it is not changed."""
    start: Annotated[str | None, NotEmpty(), Option(flags=("--from",), default="new ones")] = None
    """Modules to go on from: `mini`, a diffusers MotionAdapter folder, or a name on the hub."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(steps=5000, learning_rate=1e-4, average=0.995)
    )
    """Steps, learning rate, number type: how it is trained."""
    clips: Annotated[int, Range(1), Option(TRAINING)] = 2
    """Clips in a micro-batch."""
    strides: Annotated[
        tuple[int, ...], Range(1), Option(TRAINING, metavar="N,N", default="1,2", parse=parse_strides)
    ] = (
        1,
        2,
    )
    """Strides to learn, comma-separated: at 2 every other frame of a group is seen, as at half the frame rate. One is
    drawn for each micro-batch."""
    max_frames: Annotated[int, Range(2, 1024), Option(MODULES)] = 32
    """Most frames that new modules can see together."""
    middle: Annotated[bool, Option(MODULES)] = False
    """Put a module into the middle of the UNet too; only for modules that are new."""
    unconditional: Annotated[float, Range(0.0, 1.0), Option(TRAINING)] = 0.1
    """Share of the captions that are left out, so that guidance works."""
    seed: Annotated[int, Range(0), Option(TRAINING)] = 0
    """Number that all randomness follows from: weights, batches, noise and noise levels."""
    device: Annotated[str, NotEmpty(), Option(TRAINING)] = "auto"
    """Device to train on: auto, cpu, cuda, cuda:1 or mps."""
    cache_bytes: int = 2**30
    """How many bytes of frozen encoders' work are kept."""

    def __post_init__(self) -> None:
        settle(self)
        if not self.strides:
            raise SettingsError(f"{argument('strides')} must be whole numbers from 1 up, got none.")

    @classmethod
    def told(cls, **told: Any) -> "MotionTrainingSettings":
        """Return the default settings with what was told by flat names (`steps`, `clips`); minutes alone set no steps.

        Raises: SettingsError.
        """
        return changed(cls(), lasting(told), "a training")

    def check_frames(self, frames: int, most: int) -> None:
        """Raise SettingsError unless groups of so many frames hold clips of every stride that modules can see."""
        if frames < 2 or (frames - 1) // max(self.strides) < 1:
            raise SettingsError(
                f"groups of {frames} frames hold no clip of stride {max(self.strides)}; build the data with more "
                f"{argument('frames')}, or choose smaller strides."
            )
        if (seen := seen_at(frames, min(self.strides))) > most:
            raise SettingsError(
                f"groups of {frames} frames give clips of {seen}, and the modules see at most {most} together; build "
                f"the data with fewer {argument('frames')}."
            )


def seen_at(frames: int, stride: int) -> int:
    """Return how many frames a group of `frames` shows at a stride."""
    return (frames - 1) // stride + 1
