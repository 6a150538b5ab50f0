"""Colours of one set of primaries as those of BT.709, which results are tagged with (ITU-T H.273, BT.2087)."""

from functools import lru_cache

import torch
from jaxtyping import UInt8
from torch import Tensor

Chromaticity = tuple[float, float]
Chromaticities = tuple[Chromaticity, Chromaticity, Chromaticity, Chromaticity]
"""(x, y) of red, green, blue and white."""
D65, C, DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
"""Chromaticities of white."""
CHROMATICITIES: dict[int, Chromaticities] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}
"""Of red, green, blue and white, by the number of H.273: BT.709, BT.470 M and BG, SMPTE 170M and 240M, film, BT.2020,
DCI-P3, Display P3, EBU 3213. Frames tagged otherwise, or not at all, count as BT.709."""
BT709 = 1
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Transfer functions that are plain powers, by the number of H.273; all others for SDR are shown alike, as sRGB."""
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
"""To the responses in which white is adapted (ICC.1:2022, annex E)."""


def differs(primaries: int, transfer: int) -> bool:
    """Return whether colours so tagged are others than those of a result."""
    return (primaries in CHROMATICITIES and primaries != BT709) or transfer in GAMMAS


def to_bt709(
    pixels: UInt8[Tensor, "height width 3"], primaries: int, transfer: int
) -> UInt8[Tensor, "height width 3"]:
    """Convert SDR pixels so tagged; what is not known counts as BT.709, and its curve as sRGB's."""
    known = primaries in CHROMATICITIES and primaries != BT709
    return converted(pixels, GAMMAS.get(transfer), CHROMATICITIES[primaries] if known else None)


def converted(
    pixels: UInt8[Tensor, "height width 3"], gamma: float | None, chromaticities: Chromaticities | None
) -> UInt8[Tensor, "height width 3"]:
    """Convert SDR pixels of a plain power `gamma`, or of sRGB's curve, and of some primaries, or of BT.709's.

    Colours that BT.709 cannot show are clipped, as LittleCMS does.
    """
    light = _light_table(gamma)[pixels.long()]
    if chromaticities is not None:
        light = light @ _matrix(chromaticities).to(light.dtype).T
    light = light.clamp(0, 1)
    codes = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.pow(1 / 2.4) - 0.055)
    return (codes * 255).round().to(torch.uint8)


def matrix(primaries: int) -> Tensor:
    """Return what takes linear RGB of some primaries to that of BT.709, float64 (3, 3)."""
    return _matrix(CHROMATICITIES[primaries])


@lru_cache(maxsize=16)
def _matrix(source: Chromaticities) -> Tensor:
    target = CHROMATICITIES[BT709]
    return torch.linalg.inv(_to_xyz(*target)) @ _adapted(source[3], target[3]) @ _to_xyz(*source)


def _to_xyz(red, green, blue, white) -> Tensor:
    columns = torch.stack([_xyz(one) for one in (red, green, blue)], dim=1)
    return columns * torch.linalg.solve(columns, _xyz(white))


def _adapted(source, target) -> Tensor:
    if source == target:
        return torch.eye(3, dtype=torch.float64)
    bradford = torch.tensor(BRADFORD, dtype=torch.float64)
    scale = (bradford @ _xyz(target)) / (bradford @ _xyz(source))
    return torch.linalg.inv(bradford) @ torch.diag(scale) @ bradford


def _xyz(chromaticity: tuple[float, float]) -> Tensor:
    x, y = chromaticity
    return torch.tensor([x / y, 1.0, (1 - x - y) / y], dtype=torch.float64)


@lru_cache(maxsize=16)
def _light_table(gamma: float | None) -> Tensor:
    """Linear light in [0, 1] for each 8-bit code."""
    code = torch.arange(256, dtype=torch.float64) / 255
    if gamma is not None:
        return code.pow(gamma).float()
    return torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055).pow(2.4)).float()
