"""Perceptual distances: LPIPS on AlexNet, always said between what and what."""

from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.fidelity import NO_BACKGROUND
from evenreel.metrics.lpips import SMALLEST, Lpips
from evenreel.metrics.temporal import ONE_FRAME
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.types import Frames


class _Distance(Metric):
    """Something averaged with the network at hand."""

    family = "perceptual"
    better = "lower"
    needs = ("lpips",)
    empty = "the clip has no frames"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        assert inputs.lpips is not None
        self.network: Lpips = inputs.lpips
        self.mean = Mean()

    def value(self) -> float:
        """Return the mean over all that was added."""
        return self.mean.value(self.empty)


class LpipsSource(_Distance):
    """LPIPS (AlexNet, version 0.1) between each SOURCE frame and its edited frame, mean over frames: preservation.

    Zhang et al., arXiv:1801.03924; inputs scaled to [-1, 1], at the size of the source.
    """

    label = "LPIPS to the source"

    def add(self, window: Window) -> None:
        """Compare each edited frame of a window with the source's."""
        _check_size(window.edit)
        self.mean.add(self.network.distances(window.source, window.edit))


class LpipsConsecutive(_Distance):
    """LPIPS (AlexNet, version 0.1) between each EDITED frame and the next, mean over pairs: smoothness.

    What the papers' code computes under the name LPIPS. The source plays no part in it; a frozen clip has 0.
    """

    label = "LPIPS of neighbours"
    empty = ONE_FRAME

    def add(self, window: Window) -> None:
        """Compare each edited frame with the next, also across windows."""
        _check_size(window.edit)
        run = window.edit_run
        if len(run) > 1:
            self.mean.add(self.network.distances(run[:-1], run[1:]))


class BackgroundLpips(_Distance):
    """LPIPS (AlexNet, version 0.1) between SOURCE and edit, mean over background pixels only (outside the mask).

    The map at the size of the frames (layers enlarged bilinearly and added), computed on the unmasked frames. Features
    see far: what changes inside the mask reaches some way out of it.
    """

    label = "background LPIPS"
    needs = ("lpips", "mask")
    empty = NO_BACKGROUND

    def add(self, window: Window) -> None:
        """Add up the map over the background."""
        _check_size(window.edit)
        assert window.background is not None
        self.mean.add(self.network.distance_maps(window.source, window.edit)[window.background])


def _check_size(frames: Frames) -> None:
    height, width = frames.shape[2:]
    if min(height, width) < SMALLEST:
        raise UnavailableError(
            f"frames of {width} x {height} pixels are too small for AlexNet, which wants {SMALLEST}"
        )
