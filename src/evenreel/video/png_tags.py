"""What a PNG says of its colours besides an ICC profile (PNG, third edition, 11.3.2): cICP, else gAMA and cHRM."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from evenreel.video.hdr import tone_map
from evenreel.video.pictures import CODE_POINTS
from evenreel.video.pixel_formats import HLG, PQ
from evenreel.video.primaries import CHROMATICITIES, Chromaticities, converted, differs, to_bt709

SRGB_GAMMA = 1 / 2.2
"""What gAMA says of sRGB's curve, which is not quite that power and is what is meant."""
ALIKE = 0.004
"""How far a gamma or a chromaticity may be off sRGB's by rounding."""


def tags_to_srgb(
    pixels: UInt8[Tensor, "height width 3"], info: Mapping[Any, Any]
) -> UInt8[Tensor, "height width 3"]:
    """Convert RGB as the tags in Pillow's `Image.info` mean it; what has none is left as it is.

    The curves and primaries of H.273 are those of clips, PQ and HLG are tone-mapped as theirs are. An ICC profile ranks
    above gAMA and cHRM, and so does the chunk sRGB.
    """
    if points := info.get(CODE_POINTS):
        primaries, transfer, _, full_range = points
        if not full_range:
            pixels = ((pixels.float() - 16) * (255 / 219)).round().clamp(0, 255).to(torch.uint8)
        if transfer in (PQ, HLG):
            return tone_map(pixels.int() * 257, transfer, primaries)
        return to_bt709(pixels, primaries, transfer) if differs(primaries, transfer) else pixels
    if "icc_profile" in info or "srgb" in info:
        return pixels
    gamma, chromaticities = _gamma(info), _chromaticities(info)
    return pixels if gamma is chromaticities is None else converted(pixels, gamma, chromaticities)


def _gamma(info: Mapping[Any, Any]) -> float | None:
    """The power that takes codes to light; None for sRGB's curve, and where the chunk is absent or senseless."""
    told = info.get("gamma")
    if not told or not 0.05 < told < 20 or abs(told - SRGB_GAMMA) < ALIKE:
        return None
    return 1 / told


def _chromaticities(info: Mapping[Any, Any]) -> Chromaticities | None:
    """Red, green, blue and white; None for sRGB's, and where the chunk is absent or senseless."""
    told = info.get("chromaticity")
    if told is None or len(told) != 8:
        return None
    white, red, green, blue = zip(told[::2], told[1::2], strict=True)
    found: Chromaticities = (red, green, blue, white)
    flat = [value for pair in found for value in pair]
    if any(not 0 <= value <= 1 for value in flat) or any(pair[1] <= 0 for pair in found):
        return None
    area = (green[0] - red[0]) * (blue[1] - red[1]) - (blue[0] - red[0]) * (green[1] - red[1])
    if abs(area) < 1e-3:
        return None  # the three lie on a line
    usual = [value for pair in CHROMATICITIES[1] for value in pair]
    return None if all(abs(a - b) < ALIKE for a, b in zip(flat, usual, strict=True)) else found
