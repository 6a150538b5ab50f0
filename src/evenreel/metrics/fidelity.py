"""Agreement with a known answer."""

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.types import Frames


def psnr(
    frames: Frames, truth: Frames, weight: Float[Tensor, "frames 1 height width"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB of frames in [0, 1], from the squared error averaged over all frames.

    weight: which pixels count (averaged over those only; averaging over all would inflate the figure). Identical frames
    give infinity.
    """
    error = (frames - truth).square()
    if weight is None:
        mean = error.mean()
    else:
        weight = weight.expand_as(error)
        mean = (error * weight).sum() / weight.sum()
    return float(-10 * torch.log10(mean))
