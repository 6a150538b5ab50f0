"""A metric as another package would bring it, written against `evenreel.plugins` alone."""

from evenreel.plugins import Inputs, Mean, Metric, Window


class BrightnessChange(Metric):
    """Mean absolute difference of the brightness of source and edit, frame by frame.

    Brightness is the mean of the three channels over a frame, from 0 to 1.
    """

    family = "fidelity"
    label = "change of brightness"
    better = "lower"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean = Mean()

    def add(self, window: Window) -> None:
        """Compare the frames of a window."""
        source, edit = window.source.mean((1, 2, 3)), window.edit.mean((1, 2, 3))
        self.mean.add((source - edit).abs())

    def value(self) -> float:
        """The mean over all frames."""
        return self.mean.value("the clip has no frames")
