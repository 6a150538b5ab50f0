"""From decoded frames, whatever their colours, to 8-bit RGB pixels."""

import av.video.frame
import numpy as np
import torch
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation
from jaxtyping import UInt8

from evenreel.types import Pixels
from evenreel.video.hdr import tone_map
from evenreel.video.pixel_formats import has_alpha, is_hdr
from evenreel.video.primaries import differs, to_bt709
from evenreel.video.profiles import pixels_to_srgb

SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""Without the last three, swscale shifts colours by two levels and blurs chroma."""

BT709, SMPTE170M, BT2020, BT2020_CONSTANT = 1, 6, 9, 10
KNOWN_MATRICES = (BT709, 4, 5, SMPTE170M, 7, BT2020)
"""Numbers of ITU-T H.273 for the YUV matrices that swscale applies."""
FOREIGN_MATRICES = (8, 14, 15, 16, 17)
"""YCgCo, ICtCp and IPT: no guess comes near them, so swscale's refusal stands."""


def guess_matrix(frame: av.video.frame.VideoFrame) -> int:
    """Return the YUV matrix of a frame that names none: players take BT.601 up to PAL size and BT.709 above it."""
    if is_hdr(frame):
        return BT2020
    return SMPTE170M if frame.width < 1280 and frame.height <= 576 else BT709


def to_rgb(
    frame: av.video.frame.VideoFrame, width: int, height: int, background: tuple[int, int, int]
) -> tuple[Pixels, bool]:
    """Return one frame scaled to `width` x `height`, as (1, height, width, 3), and whether parts of it were
    transparent, which lie on `background`.
    """
    matrix, levels = frame.colorspace, frame.color_range
    if not frame.format.is_rgb and matrix not in KNOWN_MATRICES + FOREIGN_MATRICES:
        frame.colorspace = BT2020 if matrix == BT2020_CONSTANT else guess_matrix(frame)
    if levels not in (0, 1, 2):
        frame.color_range = 0
    try:
        if is_hdr(frame):
            deep = _reformat(frame, width, height, "rgb48le")
            levels_of_light = torch.from_numpy(deep.astype(np.int32))
            return tone_map(levels_of_light, frame.color_trc, frame.color_primaries)[None], False
        if has_alpha(frame):
            rgba = torch.from_numpy(_reformat(frame, width, height, "rgba"))
            rgba[..., :3] = _as_bt709(rgba[..., :3], frame)
            return composite(rgba, background)[None], is_transparent(rgba)
        return _as_bt709(torch.from_numpy(_reformat(frame, width, height, "rgb24")), frame)[None], False
    finally:
        frame.colorspace, frame.color_range = matrix, levels


def _as_bt709(
    pixels: UInt8[torch.Tensor, "height width 3"], frame: av.video.frame.VideoFrame
) -> UInt8[torch.Tensor, "height width 3"]:
    """Colours of an SDR frame as results are tagged, by its ICC profile, else by its tags."""
    # the stubs promise string keys, and only numbers and members of the enumeration work
    profile = frame.side_data.get(Type.ICC_PROFILE)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if profile is not None:
        return torch.from_numpy(pixels_to_srgb(pixels.numpy(), bytes(profile)))
    if differs(frame.color_primaries, frame.color_trc):
        return to_bt709(pixels, frame.color_primaries, frame.color_trc)
    return pixels


def is_transparent(rgba: torch.Tensor) -> bool:
    """Return whether any of (..., 4) pixels lets something shine through."""
    return bool((rgba[..., 3] < 255).any())


def composite(rgba: torch.Tensor, background: tuple[int, int, int]) -> torch.Tensor:
    """Lay (..., 4) uint8 pixels with straight alpha on a colour: (..., 3) uint8, rounded to nearest."""
    alpha = rgba[..., 3:].to(torch.int32)
    colour = torch.tensor(background, dtype=torch.int32)
    mixed = rgba[..., :3].to(torch.int32) * alpha + colour * (255 - alpha)
    return ((mixed + 127) // 255).to(torch.uint8)


def _reformat(frame: av.video.frame.VideoFrame, width: int, height: int, name: str) -> np.ndarray:
    out = frame.reformat(width=width, height=height, format=name, interpolation=SCALING, threads=1)
    return np.array(out.to_ndarray())  # a copy that owns its memory and is writable, as torch wants
