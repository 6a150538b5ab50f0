"""What every check returns: a number beside the bound that it should keep."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-9
"""Relative room for rounding in float64."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One comparison: a claim that `value` is at most `bound`."""

    what: str
    """What `value` is."""
    value: float
    bound: float
    slack: float = 1e-12
    """Absolute room for rounding, where the bound may be zero."""

    @property
    def holds(self) -> bool:
        """Whether the value keeps the bound; NaN never does."""
        return self.value <= self.bound + ROUNDING * abs(self.bound) + self.slack

    @property
    def share(self) -> float | None:
        """Value over bound: 1 where the bound is reached; None where it is zero."""
        return self.value / self.bound if self.bound > self.slack else None


def spectral_norm(
    forward: Callable[[Tensor], Tensor],
    transpose: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    iterations: int = 30,
) -> float:
    """Return the largest singular value of a linear map, by power iteration from `start`; never above the true one."""
    vector, norm = start / start.norm(), 0.0
    for _ in range(iterations):
        image = forward(vector)
        # Of all estimates on the way, each is |A v| of some unit v: the largest is the best.
        norm = max(norm, image.norm().item())
        back = transpose(image)
        if not (length := back.norm()) > 0:
            break
        vector = back / length
    return norm


def draw(*shape: int, seed: int) -> Tensor:
    """Draw standard normal numbers in float64, the same everywhere."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
