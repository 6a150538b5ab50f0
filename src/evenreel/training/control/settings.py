"""Everything that decides what comes out of a training of a ControlNet."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from evenreel.settings import NotEmpty, Option, Range, settle
from evenreel.settings.changes import changed
from evenreel.training.loop_settings import TRAINING, LoopSettings, lasting


@dataclass(frozen=True, kw_only=True)
class ControlTrainingSettings:
    """The full settings of a training. Rate, start and dropped captions follow ControlNet (arXiv:2302.05543)."""

    kind: Annotated[Literal["canny", "depth", "pose"], Option()] = "canny"
    """Kind of map that the ControlNet is shown; edges are found here, depths and poses must be in DATA."""
    model: Annotated[str, NotEmpty(), Option()] = "mini"
    """Model that it is made for, as of `evenreel edit`; it is not changed."""
    start: Annotated[
        str | None, NotEmpty(), Option(flags=("--from",), default="a copy of the model's UNet")
    ] = None
    """ControlNet to go on from, as of `evenreel edit --control`."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(steps=5000, learning_rate=1e-5, average=0.995)
    )
    """Steps, learning rate, number type: how it is trained."""
    pictures: Annotated[int, Range(1, 4096), Option(TRAINING)] = 4
    """Pictures in a micro-batch, each of another group of frames."""
    unconditional: Annotated[float, Range(0.0, 1.0), Option(TRAINING)] = 0.5
    """Share of the captions that are left out, so that a map is understood without them."""
    seed: Annotated[int, Range(0), Option(TRAINING)] = 0
    """Number that all randomness follows from: weights, batches, noise and noise levels."""
    device: Annotated[str, NotEmpty(), Option(TRAINING)] = "auto"
    """Device to train on: auto, cpu, cuda, cuda:1 or mps."""
    cache_bytes: int = 2**30
    """How many bytes of frozen encoders' work are kept."""

    def __post_init__(self) -> None:
        settle(self)

    @classmethod
    def told(cls, **told: Any) -> "ControlTrainingSettings":
        """Return the default settings with what was told by flat names (`steps`, `kind`); minutes alone set no steps.

        Raises: SettingsError.
        """
        return changed(cls(), lasting(told), "a training")
