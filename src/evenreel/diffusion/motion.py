"""Motion out of one noisy frame: shifted copies, thrown back to more noise (Text2Video-Zero, arXiv:2303.13439)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.types import Latents

GRID = 512
"""Side of the picture whose pixels motion is measured in."""
CELLS = 64
"""Side of its latents."""


def shifted(latents: Latents, shifts: Sequence[tuple[float, float]]) -> Latents:
    """Return each frame seen through a window that has moved by (down, right) cells; what lies outside is mirrored.

    Cells are moved whole (arXiv:2303.13439, section 3.3.1): to blend them would take noise away. Shifts that fall
    between two cells go up and left.
    """
    height, width = latents.shape[2:]
    moved = torch.empty_like(latents, memory_format=torch.contiguous_format)
    for copy, frame, (down, right) in zip(moved, latents, shifts, strict=True):
        copy.copy_(frame[:, source_cells(height, down)[:, None], source_cells(width, right)])
    return moved


def source_cells(cells: int, shift: float) -> Int64[Tensor, "cells"]:
    """Find for each of a row of cells, the one that comes into its place when the row is mirrored at its outer
    edges."""
    edges = torch.arange(cells, dtype=torch.float64) + shift + 0.5
    edges = edges % (2 * cells)
    mirrored = torch.minimum(edges, 2 * cells - edges)
    return (mirrored.ceil().long() - 1).clamp(0, cells - 1)


def shift_in_cells(offset: float, shorter: int) -> float:
    """Convert a motion of `offset` pixels of a picture whose shorter side, `shorter` cells, is 512 pixels, to cells."""
    return shorter * offset / GRID


def same_layout(schedule: NoiseSchedule, timestep: int, shorter: int) -> int:
    """Return the timestep at which latents with a shorter side of `shorter` cells tell as much as of 64 cells at
    `timestep`.

    What a picture shows is seen through the mean of all cells that show it, and fewer cells average less noise away:
    the ratio of signal to noise must grow as the number of cells shrinks (arXiv:2301.11093, section 3.1).
    """

    def signal(timestep: int) -> float:
        alpha = schedule.alpha(timestep)
        return math.log(alpha / max(1 - alpha, 1e-9))

    wanted = signal(timestep) + 2 * math.log(CELLS / shorter)
    return min(range(len(schedule.alphas_cumprod)), key=lambda other: abs(signal(other) - wanted))


def alpha_between(schedule: NoiseSchedule, lower: int, upper: int) -> float:
    """Return the share of signal variance that is left after adding noise from timestep `lower` to `upper`.

    It is the product of 1 - beta over `lower` + 1 to `upper` (DDPM, arXiv:2006.11239, eq. 4).
    """
    return schedule.alpha(upper) / schedule.alpha(lower)
