"""Bilateral filters: means over neighbours that are near in place and alike in value (GE-Adapter, arXiv:2501.04606,
equations 9 to 11)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.types import Latents

EDGES = ("reflect", "valid")
"""What lies beyond the border: the inside mirrored, the border itself not repeated; or nothing."""

SMALLEST_SIGMA, LARGEST_SIGMA = 1e-6, 1e6
"""Beyond them squares would leave the range of float32."""


def filter_1d(
    signal: Float[Tensor, "*shape"],
    *,
    kernel: int = 5,
    sigma_spatial: float = 1.0,
    sigma_intensity: float = 1.0,
    dim: int = -1,
) -> Float[Tensor, "*shape"]:
    """Filter along one axis, of any length, every line of values by itself; borders are mirrored.

    Raises: SettingsError for a kernel that is even or a sigma out of range.
    """
    check(kernel, sigma_spatial, sigma_intensity)
    half, length = kernel // 2, signal.shape[dim]
    values = _precise(signal)
    beyond = mirrored(half, length, signal.device)
    mean = _Mean(values, sigma_intensity)
    for offset in _outside(half):
        # Slices of a wider tensor would do, but index_select also mirrors an axis shorter than half the kernel.
        neighbours = values.index_select(dim, beyond[half + offset : half + offset + length])
        mean.add(neighbours, offset**2 / (2 * sigma_spatial**2))
    return mean.value().to(signal.dtype)


def filter_2d(
    latents: Latents,
    *,
    kernel: int = 5,
    sigma_spatial: float = 1.0,
    sigma_intensity: float = 1.0,
    edge: str = "reflect",
) -> Latents:
    """Filter every channel of every frame by itself, over a square window.

    Holds a few copies of the latents, however large the window. Raises: SettingsError.
    """
    check(kernel, sigma_spatial, sigma_intensity)
    check_edge(edge)
    half, (height, width) = kernel // 2, latents.shape[-2:]
    values = _precise(latents)
    rows, columns = mirrored(half, height, latents.device), mirrored(half, width, latents.device)
    wide = values.index_select(-2, rows).index_select(-1, columns)
    inside = _inside(half, height, width, values) if edge == "valid" else None
    mean = _Mean(values, sigma_intensity)
    for down in range(-half, half + 1):
        for right in range(-half, half + 1):
            if down or right:
                window = (
                    ...,
                    slice(half + down, half + down + height),
                    slice(half + right, half + right + width),
                )
                exponent = (down**2 + right**2) / (2 * sigma_spatial**2)
                mean.add(wide[window], exponent, None if inside is None else inside[window])
    return mean.value().to(latents.dtype)


def mirrored(half: int, length: int, device: torch.device) -> Tensor:
    """Return positions -half to length - 1 + half of an axis, those outside mirrored to the inside as often as it
    takes.
    """
    positions = torch.arange(-half, length + half, device=device)
    if length == 1:
        return torch.zeros_like(positions)
    period = 2 * (length - 1)
    positions = positions.remainder(period)
    return torch.minimum(positions, period - positions)


def check(kernel: int, sigma_spatial: float, sigma_intensity: float) -> None:
    """Raise SettingsError unless a filter of these numbers exists."""
    if kernel < 1 or kernel % 2 == 0:
        raise SettingsError(f"bilateral kernel must be odd and at least 1, got {kernel}.")
    for name, sigma in (("sigma_spatial", sigma_spatial), ("sigma_intensity", sigma_intensity)):
        if not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:
            raise SettingsError(
                f"bilateral {name} must be from {SMALLEST_SIGMA:g} to {LARGEST_SIGMA:g}, got {sigma}."
            )


def check_edge(edge: str) -> None:
    """Raise SettingsError for an unknown way to treat borders."""
    if edge not in EDGES:
        raise SettingsError(f"bilateral edge must be {' or '.join(EDGES)}, got {edge!r}.")


class _Mean:
    """A weighted mean that grows one neighbour at a time; the centre is in it with weight 1."""

    def __init__(self, centre: Tensor, sigma_intensity: float) -> None:
        self.centre, self.narrowness = centre, 1 / (2 * sigma_intensity**2)
        self.shift, self.weights = torch.zeros_like(centre), torch.ones_like(centre)

    def add(self, neighbours: Tensor, exponent: float, share: Tensor | None = None) -> None:
        difference = neighbours - self.centre
        weight = torch.exp(-difference.square() * self.narrowness - exponent)
        if share is not None:
            weight = weight * share
        self.shift = self.shift + weight * difference
        self.weights = self.weights + weight

    def value(self) -> Tensor:
        # The mean difference is added to the centre: where all is equal, nothing changes, not even by rounding.
        return self.centre + self.shift / self.weights


def _outside(half: int) -> Iterator[int]:
    return (offset for offset in range(-half, half + 1) if offset)


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _inside(half: int, height: int, width: int, like: Tensor) -> Tensor:
    """1 where the picture is, 0 on a margin of `half` around it."""
    inside = like.new_zeros(height + 2 * half, width + 2 * half)
    inside[half : half + height, half : half + width] = 1
    return inside
