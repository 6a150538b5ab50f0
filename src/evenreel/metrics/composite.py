"""Figures made of two others: what was asked for against consistency. Their parts are shown beside them."""

from evenreel.metrics.base import Metric
from evenreel.metrics.clip import ClipText
from evenreel.metrics.temporal import WarpError, WarpSsim
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window

BELOW_ZERO = "CLIP-T is below zero ({:.3g}), where a better part would make a worse whole"


class SEdit(Metric):
    """S_edit: CLIP-T over warp error.

    Cong et al., arXiv:2310.05922. Both as defined here (CLIP-T of about 30, warp error of frames in [0, 1]): papers
    scale the parts in other ways. Unavailable where CLIP-T is below zero: less warp error would then lower it.
    """

    label = "S_edit"
    family = "composite"
    better = "higher"
    needs = ("clip", "prompt", "flow")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.text, self.error = ClipText(inputs), WarpError(inputs)

    def add(self, window: Window) -> None:
        """Give the window to both metrics that the figure is made of."""
        self.text.add(window)
        self.error.add(window)

    def value(self) -> float:
        """Return the quotient of the two figures that it is made of."""
        error = self.error.value()
        if error == 0:
            raise UnavailableError("the warp error is zero, and nothing can be divided by it")
        return _above_zero(self.text) / error


class QEdit(Metric):
    """Q_edit: WarpSSIM times CLIP-T.

    Kara et al., arXiv:2312.04524; both as defined here. Unavailable where CLIP-T is below zero.
    """

    label = "Q_edit"
    family = "composite"
    better = "higher"
    needs = ("clip", "prompt", "flow")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.text, self.similarity = ClipText(inputs), WarpSsim(inputs)

    def add(self, window: Window) -> None:
        """Give the window to both metrics that the figure is made of."""
        self.text.add(window)
        self.similarity.add(window)

    def value(self) -> float:
        """Return the product of the two figures that it is made of."""
        similarity = self.similarity.value()
        return _above_zero(self.text) * similarity


def _above_zero(text: ClipText) -> float:
    value = text.value()
    if value < 0:
        raise UnavailableError(BELOW_ZERO.format(value))
    return value
