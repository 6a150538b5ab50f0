"""Consistency from frame to frame, measured along the source's motion.

A frozen clip wins flicker and blur lowers the rest; they mean something only beside measures of what was asked for.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.fidelity import SSIM_RADIUS, check_ssim_size, ssim_map
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.ops.warp import Flow, Visible, warp_back
from evenreel.types import Frames

STILL = 0.05
"""Pixels between two frames below which a place counts as static."""
LEAST_STILL = 0.05
"""Share of all places that must be static for flicker to be told: else some dozens of pixels would speak for the clip.
Where a camera moves, a few places hold still all the same, as where a zoom is centred: up to 13% of the picture in 40
clips of the world, mostly below 0.01%, against 58% and more where it rests."""
ONE_FRAME = "the clip has one frame, and this compares neighbours"

Chosen = Float[Tensor, "values"]
"""The values at the places that count."""


def warp_differences(frames: Frames, flow: Flow, visible: Visible) -> Chosen:
    """Return the squared difference between each frame and the next one brought back, at each visible place."""
    difference = (warp_back(frames[1:], flow) - frames[:-1]).square().mean(1, keepdim=True)
    return difference[visible]


def still_differences(frames: Frames, flow: Flow, visible: Visible) -> Chosen:
    """Return the absolute difference between each frame and the next one, at each visible place that stands still."""
    still = visible & (flow.square().sum(1, keepdim=True) < STILL**2)
    return (frames[1:] - frames[:-1]).abs().mean(1, keepdim=True)[still]


def warp_similarities(frames: Frames, flow: Flow, visible: Visible) -> Chosen:
    """Return the SSIM of each frame and the next one brought back, at each visible place with its window in the
    picture."""
    inner = slice(SSIM_RADIUS, -SSIM_RADIUS)
    back, found = warp_back(frames[1:], flow), list[Tensor]()
    for i in range(len(flow)):  # a pair at a time: maps in double precision take much memory
        similarity = ssim_map(back[i : i + 1], frames[i : i + 1]).mean(1, keepdim=True)
        found.append(similarity[visible[i : i + 1, :, inner, inner]])
    return torch.cat(found)


def warp_error(frames: Frames, flow: Flow, visible: Visible) -> float | None:
    """Return the mean squared difference between each frame and the next one brought back along the source's flow.

    Over places that stay visible (Lai et al., ECCV 2018); frames in [0, 1]. None where no place does, or for one frame.
    """
    return _mean(warp_differences(frames, flow, visible))


def flicker(frames: Frames, flow: Flow, visible: Visible) -> float | None:
    """Return the mean absolute difference of adjacent frames where the source stands still; None if too little does."""
    values = still_differences(frames, flow, visible)
    return _mean(values) if len(values) >= LEAST_STILL * visible.numel() else None


def _mean(values: Chosen) -> float | None:
    return float(values.mean()) if len(values) else None


class _AlongMotion(Metric):
    """Something averaged over the visible places of all pairs of neighbours."""

    family = "temporal"
    needs = ("flow",)
    empty = "no place of the source stays in view from one frame to the next"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean, self.pairs, self.places = Mean(), 0, 0

    @abstractmethod
    def values(self, frames: Frames, flow: Flow, visible: Visible) -> Chosen:
        """Return what is averaged."""

    def add(self, window: Window) -> None:
        """Look at the window's pairs."""
        if len(window.edit_run) > 1:
            flow, visible = window.motion
            self.pairs += len(window.edit_run) - 1
            self.places += visible.numel()
            self.mean.add(self.values(window.edit_run, flow, visible))

    def value(self) -> float:
        """Return the mean over all that was looked at."""
        if not self.pairs:
            raise UnavailableError(ONE_FRAME)
        return self.mean.value(self.empty)


class WarpError(_AlongMotion):
    """Mean squared difference between each edited frame and the next one brought back along the SOURCE's flow, over
    places that stay visible.

    Lai et al., ECCV 2018; frames in [0, 1], mean over channels, bilinear sampling. Every visible place of the clip
    weighs the same. Visible: exact where depth is known, else going to the next frame and back must end at home.
    Blur lowers it.
    """

    label = "warp error"
    shown_in = 1e-3
    better = "lower"

    def values(self, frames: Frames, flow: Flow, visible: Visible) -> Chosen:
        """Return the squared differences of each frame and the next one brought back along the flow, where places
        count."""
        return warp_differences(frames, flow, visible)


class WarpSsim(_AlongMotion):
    """Mean SSIM between each edited frame and the next one brought back along the SOURCE's flow, over places that stay
    visible.

    SSIM as in `source_ssim`, its map averaged over visible pixels whose 11 x 11 window lies in the picture.
    """

    label = "warp SSIM"
    better = "higher"

    def values(self, frames: Frames, flow: Flow, visible: Visible) -> Chosen:
        """Return the similarities of each frame and the next one brought back along the flow, where places count."""
        check_ssim_size(frames)
        return warp_similarities(frames, flow, visible)


class Flicker(_AlongMotion):
    """Mean absolute difference of adjacent edited frames where the SOURCE stands still (moves less than 0.05 pixels).

    Frames in [0, 1], mean over channels; a still place must also stay visible. Unavailable where less than 5% of all
    places are such: some dozens of pixels would speak for the clip. A frozen clip has none.
    """

    label = "flicker"
    shown_in = 1e-3
    better = "lower"
    empty = "nothing in the source stands still"

    def values(self, frames: Frames, flow: Flow, visible: Visible) -> Chosen:
        """Return the absolute differences of neighbouring frames, where places count."""
        return still_differences(frames, flow, visible)

    def value(self) -> float:
        """Return the mean over what stands still, if that is enough."""
        mean = super().value()
        if (share := self.mean.count / self.places) < LEAST_STILL:
            raise UnavailableError(
                f"only {share:.2%} of the source stands still, and at least {LEAST_STILL:.0%} must"
            )
        return mean
