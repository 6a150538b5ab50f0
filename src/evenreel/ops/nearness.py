"""Depth as the pictures that ControlNets for depth are shown: near is white, far is black."""

from jaxtyping import Float
from torch import Tensor


def nearness(depth: Float[Tensor, "frames 1 height width"]) -> Float[Tensor, "frames 1 height width"]:
    """Return depths (larger is farther, of any unit) as brightness in [0, 1]: in each frame the nearest is 1, the
    farthest 0.

    A frame that is equally far everywhere is black.
    """
    near, far = depth.amin((2, 3), keepdim=True), depth.amax((2, 3), keepdim=True)
    return (far - depth) / (far - near).clamp(min=1e-12)
