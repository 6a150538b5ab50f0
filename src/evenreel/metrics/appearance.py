"""Whether an edit is as sharp and as colourful as the right answer: what blur and averaging take away.

Blur and grey lower warp error and flicker, so these figures belong beside them.
"""

from abc import abstractmethod

from torch import Tensor

from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.ops.edges import GREY
from evenreel.types import Frames

LEAST = 1e-6
"""What the right answer must have for a ratio to mean something."""


def gradient_energy(frames: Frames) -> Tensor:
    """Return the squared difference of brightness between each pixel and its right and its lower neighbour, added.

    One value for each pixel that has both neighbours; brightness in [0, 1].
    """
    luma = frames.movedim(1, -1) @ frames.new_tensor(GREY)
    across = luma[:, :-1, 1:] - luma[:, :-1, :-1]
    down = luma[:, 1:, :-1] - luma[:, :-1, :-1]
    return across.square() + down.square()


def chroma(frames: Frames) -> Tensor:
    """Return the largest minus the smallest of each pixel's red, green and blue, in [0, 1]: 0 is grey."""
    return frames.amax(1) - frames.amin(1)


class _Ratio(Metric):
    """The mean of something in the edit over its mean in the right answer."""

    family = "fidelity"
    better = "one"
    needs = ("truth",)
    nothing = ""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.of_edit, self.of_truth = Mean(), Mean()

    @abstractmethod
    def amount(self, frames: Frames) -> Tensor:
        """Return what is averaged."""

    def add(self, window: Window) -> None:
        """Add up both."""
        assert window.truth is not None
        self.of_edit.add(self.amount(window.edit))
        self.of_truth.add(self.amount(window.truth))

    def value(self) -> float:
        """Return the quotient."""
        edit, truth = (mean.value("the clip has no frames") for mean in (self.of_edit, self.of_truth))
        if truth < LEAST:
            raise UnavailableError(self.nothing)
        return edit / truth


class SharpnessRatio(_Ratio):
    """Gradient energy of the edit over that of the right answer: below 1 it is blurred, above 1 it has grain or edges
    that do not belong there.

    Mean over pixels and frames of the squared differences of brightness (BT.601) between a pixel and its right and its
    lower neighbour. Blur lowers it and noise raises it, so that both at once may cancel.
    """

    label = "sharpness"
    nothing = "the right answer has no edges at all"

    def amount(self, frames: Frames) -> Tensor:
        """Return the gradient energy of each pixel that has neighbours to the right and below."""
        return gradient_energy(frames)


class SaturationRatio(_Ratio):
    """Saturation of the edit over that of the right answer: below 1 its colours are washed out.

    Mean over pixels and frames of the difference between the largest and the smallest of red, green and blue.
    """

    label = "saturation"
    nothing = "the right answer has no colour at all"

    def amount(self, frames: Frames) -> Tensor:
        """Return the chroma of each pixel, from 0 to 1."""
        return chroma(frames)
