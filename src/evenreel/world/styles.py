"""Looks of the whole picture, as functions of its frames (frames 3 height width, in [0, 1])."""

from collections.abc import Callable

import torch
from torch.nn import functional

from evenreel.types import Frames


def pixel_art(frames: Frames) -> Frames:
    """Draw square blocks, 32 on the shorter side, with few colours."""
    height, width = frames.shape[-2:]
    block = max(1, min(height, width) // 32)
    small = functional.avg_pool2d(frames, block, ceil_mode=True, count_include_pad=False)
    small = (small * 7).round() / 7
    return small.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :height, :width]


def pencil_sketch(frames: Frames) -> Frames:
    """Draw pale crayon colours on paper, dark lines where brightness changes."""
    grey = frames.mean(1, keepdim=True)
    unit = max(1, min(frames.shape[-2:]) // 128)
    grey = functional.avg_pool2d(functional.pad(grey, [unit] * 4, mode="replicate"), 2 * unit + 1, 1)
    across = functional.pad(grey, [unit, unit, 0, 0], mode="replicate")
    down = functional.pad(grey, [0, 0, unit, unit], mode="replicate")
    slope = torch.hypot(
        across[..., 2 * unit :] - across[..., : -2 * unit],
        down[..., 2 * unit :, :] - down[..., : -2 * unit, :],
    )
    lines = ((slope - 0.06) / 0.2).clamp(0, 1)
    paper = 0.45 * frames + 0.55 * torch.tensor([0.97, 0.95, 0.90]).view(3, 1, 1)
    return paper * (1 - 0.8 * lines)


def poster(frames: Frames) -> Frames:
    """Draw few brightness levels, strong colours."""
    grey = frames.mean(1, keepdim=True)
    level = (grey * 3.5).round() / 3.5
    return ((frames - grey) * 1.5 + level).clamp(0, 1)


STYLE: dict[str, Callable[[Frames], Frames]] = {
    "none": lambda frames: frames,
    "pixel art": pixel_art,
    "pencil sketch": pencil_sketch,
    "poster": poster,
}
