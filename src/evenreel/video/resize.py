"""From a clip's size to one a model takes, and back."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from evenreel.errors import SettingsError
from evenreel.types import Frames, Pixels


def fit(
    width: int, height: int, size: int | None, multiple: int, minimum: int | None = None
) -> tuple[int, int]:
    """Return the (width, height) at which a model works on a picture of `width` x `height` pixels.

    The shorter side becomes `size` pixels (None: stays), the aspect ratio is kept, and then each side goes to
    the nearest multiple of `multiple`, but not below `minimum` (None: one multiple).
    """
    if min(width, height, multiple) < 1:
        raise SettingsError(
            f"width, height and multiple must be at least 1, got {width}, {height} and {multiple}."
        )
    if size is not None and size < 1:
        raise SettingsError(f"size must be at least 1 pixel, got {size}.")
    scale = (size or min(width, height)) / min(width, height)
    least = -(-max(minimum or multiple, multiple) // multiple)
    # halves go up: 24 with a multiple of 16 is 32, not whichever is even
    sides = [max(least, int(side * scale / multiple + 0.5)) * multiple for side in (width, height)]
    return sides[0], sides[1]


def to_model(pixels: Pixels, size: tuple[int, int]) -> Float[Tensor, "frames 3 model_height model_width"]:
    """Return frames in [0, 1] at `size` (width, height), antialiased; the aspect ratio follows `size`."""
    return _resized(pixels.permute(0, 3, 1, 2).to(torch.float32) / 255, size)


def from_model(frames: Frames, size: tuple[int, int]) -> UInt8[Tensor, "frames clip_height clip_width 3"]:
    """Return pixels at `size` (width, height), rounded to nearest; undoes `to_model` exactly at an unchanged size."""
    levels = _resized(frames.to(torch.float32), size) * 255
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _resized(frames: Frames, size: tuple[int, int]) -> Float[Tensor, "frames 3 new_height new_width"]:
    width, height = size
    if frames.shape[2:] == (height, width):
        return frames.clamp(0, 1)
    resized = interpolate(frames, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)  # bicubic overshoots at edges
