"""How something is trained: steps, learning rate, number type, averages."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from evenreel.errors import SettingsError
from evenreel.settings import Option, Range, settle

TRAINING = "Training"
FREE = ("steps", "minutes", "decay", "checkpoint_seconds", "dtype")
"""Settings that a training may be told anew when it goes on."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How something is trained."""

    steps: Annotated[int | None, Range(1), Option(TRAINING)] = None
    """Optimizer steps in all."""
    minutes: Annotated[float | None, Range(0.0, 1e6, above=True, below=True), Option(TRAINING)] = None
    """Minutes of training in all, over all runs in the folder; the training ends before its steps are made then."""
    learning_rate: Annotated[float, Range(0.0, 1.0, above=True), Option(TRAINING)] = 1e-3
    """Learning rate after the warm-up."""
    warmup: Annotated[int, Range(0), Option(TRAINING)] = 200
    """Steps over which the learning rate rises linearly from zero; in a shorter training, a tenth of its steps."""
    decay: Annotated[float, Range(0.0, 1.0), Option(TRAINING)] = 0.2
    """Share of the training, at its end, over which the learning rate falls linearly to zero; at 0 it stays."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for hidden matrices with AdamW for the rest."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    accumulation: Annotated[int, Range(1), Option(TRAINING)] = 1
    """Micro-batches of a step, over all processes together."""
    average: Annotated[float, Range(0.0, 1.0, below=True)] = 0.0
    """Decay of the running average of the weights, which is then what comes out; 0 keeps none."""
    gradient_clip: Annotated[float, Range(0.0, above=True), Option(TRAINING)] = 1.0
    """Largest norm of the gradient; a longer one is shortened to it."""
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Option(TRAINING, metavar="TYPE"),
    ] = "auto"
    """Number type of the matrix products: `auto` (the faster one, measured), float32, bfloat16, or float16 on a GPU."""
    checkpoint_seconds: Annotated[float, Range(0.0), Option(TRAINING)] = 120.0
    """Seconds from one saved state to the next."""

    def __post_init__(self) -> None:
        settle(self)
        if self.steps is None and self.minutes is None:
            raise SettingsError("a training needs steps or minutes; give one of them.")

    @property
    def warmup_made(self) -> int:
        """Steps of the warm-up: a tenth of the training where it is told to be longer than all of it."""
        if self.steps is None or self.warmup <= self.steps:
            return self.warmup
        return self.steps // 10

    def rate(self, step: int, length: int | None) -> float:
        """Return the learning rate of a step, counted from 0, in a run of `length` steps (None: not known yet)."""
        risen = self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_made))
        if length is None or step < (falls := self.falls_from(length)):
            return risen
        return risen * (length - step) / (length - falls)

    def falls_from(self, length: int) -> int:
        """Return the step from which the learning rate falls in a run of `length` steps; `length` where it stays."""
        return length - math.floor(length * self.decay)


def lasting(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was told of a training, by flat names; minutes without steps mean that no steps are set."""
    return {"steps": None, **told} if told.get("minutes") is not None else dict(told)
