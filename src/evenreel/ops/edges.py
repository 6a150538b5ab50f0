"""Edges of pictures (Canny, IEEE PAMI 8(6), 1986), as ControlNets are shown them."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from jaxtyping import Bool, Float
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.types import Frames

Planes = Float[Tensor, "frames height width"]
GREY = (0.299, 0.587, 0.114)
"""What red, green and blue add to brightness (BT.601)."""
LOW, HIGH = 100.0, 200.0
"""Thresholds in 8-bit levels, those with which ControlNets for edges were trained."""


@torch.no_grad()
def canny(
    frames: Frames, *, low: float = LOW, high: float = HIGH, sigma: float = 0.0
) -> Bool[Tensor, "frames height width"]:
    """Return where edges are: lines one pixel wide on the crests of the brightness gradient.

    A crest is an edge where the gradient (Sobel's, the sum of its two absolute components, in 8-bit levels) exceeds
    `high`, or exceeds `low` and touches such a place through others like it. `sigma` pixels of Gaussian blur come
    first; noisy clips need them. Raises: SettingsError for thresholds that are not in order.
    """
    if not 0 <= low <= high or sigma < 0:
        raise SettingsError(
            f"canny needs 0 <= low <= high and sigma >= 0, got low {low}, high {high}, sigma {sigma}."
        )
    grey = 255 * torch.einsum("fchw,c->fhw", frames.float(), frames.new_tensor(GREY, dtype=torch.float32))
    across, down = _sobel(blurred(grey, sigma) if sigma else grey)
    strength = across.abs() + down.abs()
    crests = strength * _is_crest(strength, across, down)
    return _connected(crests > high, crests > low)


def blurred(planes: Planes, sigma: float) -> Planes:
    """Blur by a Gaussian of `sigma` pixels, cut off at three of them; what lies beyond the edge is as the edge is."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = F.pad(planes[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, weights[None, None, None, :]), weights[None, None, :, None])[:, 0]


def _sobel(planes: Planes) -> tuple[Planes, Planes]:
    """Gradients to the right and downwards, eight times the slope a pixel."""
    padded = F.pad(planes[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return columns[:, :, 2:] - columns[:, :, :-2], rows[:, 2:] - rows[:, :-2]


def _is_crest(strength: Planes, across: Planes, down: Planes) -> Bool[Tensor, "frames height width"]:
    """Where strength is greatest along the gradient, whose direction counts as one of four."""
    padded = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[1:]

    def greatest(dy: int, dx: int) -> Tensor:
        before = padded[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        # strict on one side: of two equal neighbours one remains
        return (strength > before) & (strength >= after)

    slope = math.tan(math.pi / 8)
    flat = down.abs() <= slope * across.abs()
    steep = across.abs() < slope * down.abs()
    falling = (across > 0) == (down > 0)
    slanted = torch.where(falling, greatest(1, 1), greatest(1, -1))
    return torch.where(flat, greatest(0, 1), torch.where(steep, greatest(1, 0), slanted))


def _connected(
    strong: Bool[Tensor, "frames height width"], weak: Bool[Tensor, "frames height width"]
) -> Bool[Tensor, "frames height width"]:
    """Weak places that strong ones reach through weak neighbours, diagonal ones included."""
    found = strong
    while True:
        grown = F.max_pool2d(found[:, None].float(), 3, stride=1, padding=1)[:, 0].bool() & weak
        if torch.equal(grown, found):
            return found
        found = grown
