"""Consistency from frame to frame, measured along a motion that is known.

A frozen or a blurred clip wins all of these; they mean something only beside measures of what was asked for.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.ops.warp import Flow, Visible, flow_grid, warp_back
from evenreel.types import Frames

STILL = 0.05
"""Pixels between two frames below which a place counts as static."""


def visible_by_depth(depth: Float[Tensor, "frames 1 height width"], flow: Flow) -> Visible:
    """Which places are seen in the next frame too, where depth is exact: nothing else may lie where they go.

    The eight neighbours of the landing place count too, as bilinear sampling mixes them in. `flow` has one row less
    than `depth`.
    """
    _, inside = flow_grid(flow)
    following = depth[1:]
    nearest = warp_back(-functional.max_pool2d(-following, 3, 1, 1), flow, "nearest")
    farthest = warp_back(functional.max_pool2d(following, 3, 1, 1), flow, "nearest")
    return inside & ((nearest - depth[:-1]).abs() < 1e-3) & ((farthest - depth[:-1]).abs() < 1e-3)


def visible_by_return(flow: Flow, backward: Flow) -> Visible:
    """Which places are seen in the next frame too, where flow was estimated: going there and back must end at home.

    backward: from each next frame to the one before. The tolerance is the usual one (Sundaram et al., ECCV 2010):
    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5.
    """
    _, inside = flow_grid(flow)
    back = warp_back(backward, flow)
    off = (flow + back).square().sum(1, keepdim=True)
    length = flow.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return inside & (off < 0.01 * length + 0.5)


def warp_error(frames: Frames, flow: Flow, visible: Visible) -> float | None:
    """Mean squared difference between each frame and the next one brought back along the source's flow.

    Over places that stay visible (Lai et al., ECCV 2018); frames in [0, 1]. None where no place does, or for one frame.
    """
    error = (warp_back(frames[1:], flow) - frames[:-1]).square().mean(1, keepdim=True)
    return _mean(error, visible)


def flicker(frames: Frames, flow: Flow, visible: Visible) -> float | None:
    """Mean absolute difference of adjacent frames where the source stands still; None where nothing does."""
    still = visible & (flow.square().sum(1, keepdim=True) < STILL**2)
    return _mean((frames[1:] - frames[:-1]).abs().mean(1, keepdim=True), still)


def _mean(values: Float[Tensor, "pairs 1 height width"], where: Visible) -> float | None:
    return float(values[where].mean()) if bool(torch.any(where)) else None
