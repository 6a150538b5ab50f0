"""PQ and HLG frames as ordinary RGB (BT.2100, BT.2408): to light, to BT.709 primaries, roll off, back to codes."""

from functools import cache

import torch
from torch import Tensor

from evenreel.video.pixel_formats import HLG, PQ
from evenreel.video.primaries import CHROMATICITIES, matrix

WHITE_NITS = 203.0
"""Luminance of diffuse white in HDR (BT.2408); it lands just below the white of the result."""
PEAK_NITS = 1000.0
"""Luminance that becomes full white: what most HDR video is graded to."""
KNEE = 0.7
"""Light, as a part of the result's range, up to which nothing is compressed."""

BT2020 = 9


def tone_map(codes: Tensor, transfer: int, primaries: int = BT2020) -> Tensor:
    """Turn RGB codes (..., 3), integers from 0 to 65535, into BT.709 pixels (..., 3), uint8.

    Primaries that are not known count as those of BT.2020, which HDR is nearly always made with. The roll-off acts on
    the brightest channel and scales the three together, so hues stay.
    """
    light = _light_table(transfer)[codes.long()]
    if transfer == HLG:
        # the HLG system gamma for a 1000-nit display acts on luminance (BT.2100, table 5)
        luminance = light @ light.new_tensor((0.2627, 0.6780, 0.0593))
        light = light * luminance.clamp(min=1e-6).pow(0.2)[..., None] * (PEAK_NITS / WHITE_NITS)
    known = primaries if primaries in CHROMATICITIES else BT2020
    light = (light @ matrix(known).to(light.dtype).T).clamp(min=0)
    brightest = light.amax(-1, keepdim=True)
    light = light * (roll_off(brightest) / brightest.clamp(min=1e-6))
    # display light back to codes: what a BT.1886 screen would need to show it
    return (light.clamp(0, 1).pow(1 / 2.4) * 255).round().to(torch.uint8)


def roll_off(light: Tensor) -> Tensor:
    """Leave light below the knee; bend what is above (extended Reinhard) so that PEAK_NITS becomes 1."""
    room, peak = 1 - KNEE, (PEAK_NITS / WHITE_NITS - KNEE) / (1 - KNEE)
    above = ((light - KNEE) / room).clamp(min=0)
    bent = above * (1 + above / peak**2) / (1 + above)
    return torch.where(light <= KNEE, light, KNEE + room * bent).clamp(max=1)


@cache
def _light_table(transfer: int) -> Tensor:
    """Light for each 16-bit code: for PQ relative to diffuse white, for HLG scene light in [0, 1]."""
    code = torch.arange(65536, dtype=torch.float64) / 65535
    if transfer == PQ:
        power = code ** (1 / 78.84375)
        nits = 10000 * ((power - 0.8359375).clamp(min=0) / (18.8515625 - 18.6875 * power)) ** (
            1 / 0.1593017578125
        )
        return (nits / WHITE_NITS).float()
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return torch.where(code <= 0.5, code**2 / 3, (((code - c) / a).exp() + b) / 12).float()
