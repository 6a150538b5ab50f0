"""The bilateral filter: C.7.

    B(x)_i = sum_j w_ij x_j / k_i,    k_i = sum_j w_ij
    w_ij = exp(-|i - j|^2 / (2 sigma_s^2)) exp(-(x_i - x_j)^2 / (2 sigma_r^2))

The centre weighs 1. W(x) = diag(1/k) (w_ij) is the row-stochastic matrix with B(x) = W(x) x. This is a reference: small
pictures, dense matrices, float64, nothing shared with the filter that edits use.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from evenreel.theory.measured import Measured

Picture = Float[Tensor, "height width"]
Matrix = Float[Tensor, "pixels pixels"]
Edge = Literal["valid", "reflect"]


@dataclass(frozen=True, kw_only=True)
class Bilateral:
    """The filter for pictures of one size."""

    height: int
    width: int
    kernel: int = 5
    """Side of the window, odd."""
    sigma_spatial: float = 1.0
    sigma_intensity: float = 1.0
    edge: Edge = "valid"
    """Neighbours outside: left out, or mirrored without repeating the edge (a side must exceed kernel // 2)."""

    @classmethod
    def of(cls, picture: Picture, **settings: float | int | str) -> "Bilateral":
        """Return the filter that fits a picture."""
        return cls(height=picture.shape[0], width=picture.shape[1], **settings)  # pyright: ignore[reportArgumentType]

    def spatial(self) -> Matrix:
        """Return weights by distance alone: rows are windows; a pixel seen twice, in the mirror too, counts twice."""
        columns, weights = _window(self)
        return torch.zeros(len(columns), len(columns), dtype=torch.float64).scatter_add_(1, columns, weights)

    def kernel_matrix(self, x: Picture) -> Matrix:
        """Return the weights w_ij."""
        columns, weights = self._pieces(x)
        return torch.zeros(len(columns), len(columns), dtype=torch.float64).scatter_add_(1, columns, weights)

    def matrix(self, x: Picture) -> Matrix:
        """Return W(x): rows sum to 1."""
        weights = self.kernel_matrix(x)
        return weights / weights.sum(1, keepdim=True)

    def __call__(self, x: Picture) -> Picture:
        """B(x)."""
        return (self.matrix(x) @ x.double().flatten()).view(x.shape)

    def jacobian(self, x: Picture) -> Matrix:
        """Return the derivative of B at x: with u_j = x_j - x_i and b = B(x)_i - x_i, entry (i, j) is W_ij (1 - u_j
        (u_j - b) / sigma_r^2), and the rows sum to 1."""
        flat = x.double().flatten()
        columns, weights = self._pieces(x)
        shares = weights / weights.sum(1, keepdim=True)
        offsets = flat[columns] - flat[:, None]
        moved = (shares * offsets).sum(1, keepdim=True)
        pull = offsets * (offsets - moved) / self.sigma_intensity**2
        found = torch.zeros(len(flat), len(flat), dtype=torch.float64)
        found.scatter_add_(1, columns, shares * (1 - pull))
        return found + torch.diag((shares * pull).sum(1))

    def crowding(self) -> float:
        """Return S: the largest sum of spatial weights off the centre that one window has."""
        return self.spatial().sum(1).max().item() - 1

    def demand(self) -> float:
        """Return S': the largest sum of spatial weights with which others look at one pixel; S where nothing is
        mirrored."""
        return self.spatial().sum(0).max().item() - 1

    def oscillation(self, x: Picture) -> float:
        """Return osc(x): the largest difference between a pixel and another of its window."""
        flat = x.double().flatten()
        return (flat[_window(self)[0]] - flat[:, None]).abs().max().item()

    def _pieces(self, x: Picture) -> tuple[Int64[Tensor, "pixels window"], Float[Tensor, "pixels window"]]:
        flat = x.double().flatten()
        columns, weights = _window(self)
        offsets = flat[columns] - flat[:, None]
        return columns, weights * torch.exp(-(offsets**2) / (2 * self.sigma_intensity**2))


def _axis(size: int, filtering: Bilateral) -> tuple[Tensor, Tensor]:
    """Positions (size, kernel) that the windows along one side see, and their weights; 0 for what is left out."""
    half = filtering.kernel // 2
    steps = torch.arange(-half, half + 1)
    places = torch.arange(size)[:, None] + steps
    weights = torch.exp(-(steps.double() ** 2) / (2 * filtering.sigma_spatial**2)).expand(size, -1)
    inside = (places >= 0) & (places < size)
    if filtering.edge == "valid":
        return places.clamp(0, size - 1), weights * inside
    assert half < size, "a mirror must be deeper than the window"
    return torch.minimum(places.abs(), 2 * (size - 1) - places.abs()), weights


@cache
def _window(filtering: Bilateral) -> tuple[Tensor, Tensor]:
    """For each pixel, the pixels (height * width, kernel^2) of its window, and the weights by distance."""
    (rows, down), (columns, right) = _axis(filtering.height, filtering), _axis(filtering.width, filtering)
    places = rows[:, None, :, None] * filtering.width + columns[None, :, None, :]
    weights = down[:, None, :, None] * right[None, :, None, :]
    pixels = filtering.height * filtering.width
    return places.reshape(pixels, -1), weights.reshape(pixels, -1)


def error_in_max_norm(filtering: Bilateral, x: Picture, reference: Picture) -> Measured:
    """Measure C.7 in the max-norm: |B(x) - r| <= |x - r| + S / (1 + S) osc(r)."""
    crowding = filtering.crowding()
    bound = (x - reference).abs().max().item() + crowding / (1 + crowding) * filtering.oscillation(reference)
    return Measured(
        what="max-norm of B(x) - r", value=(filtering(x) - reference).abs().max().item(), bound=bound
    )


def error_in_two_norm(filtering: Bilateral, x: Picture, reference: Picture) -> Measured:
    """Measure C.7 in the 2-norm: |B(x) - r| <= sqrt(kappa) |x - r| + |(W(x) - I) r|, kappa the largest column sum of
    W(x)."""
    matrix, flat = filtering.matrix(x), reference.double().flatten()
    drift = (matrix @ flat - flat).norm().item()
    return Measured(
        what="2-norm of B(x) - r",
        value=(filtering(x) - reference).norm().item(),
        bound=math.sqrt(column_sum(matrix)) * (x - reference).double().norm().item() + drift,
    )


def column_sum(matrix: Matrix) -> float:
    """Return kappa: the largest column sum. The 2-norm of a row-stochastic matrix is at most its root."""
    return matrix.sum(0).max().item()


def norms_of_matrix(filtering: Bilateral, x: Picture) -> tuple[Measured, ...]:
    """Measure |W(x)|_2 <= sqrt(kappa) <= sqrt(1 + S'): what one application can do to an error."""
    matrix = filtering.matrix(x)
    root, norm = math.sqrt(column_sum(matrix)), torch.linalg.matrix_norm(matrix, 2).item()
    ceiling = math.sqrt(1 + filtering.demand())
    return (
        Measured(what="2-norm of W(x) against sqrt(kappa)", value=norm, bound=root),
        Measured(what="sqrt(kappa) against sqrt(1 + S')", value=root, bound=ceiling),
    )


def expansion(filtering: Bilateral, x: Picture) -> Measured:
    """Return the largest factor by which B can stretch a small difference, in the max-norm: at most 1 + 4 W0(S e^-1.5).

    W0 is Lambert's function. Where no window's range exceeds sigma_r, the factor is 1.
    """
    factor = filtering.jacobian(x).abs().sum(1).max().item()
    bound = lipschitz_constant(filtering.crowding())
    return Measured(what="max-norm of the Jacobian of B", value=factor, bound=bound)


def lipschitz_constant(crowding: float) -> float:
    """Return 1 + 4 W0(S e^-1.5): reached by a pixel whose neighbours stand half above it and half below, equally
    far."""
    return 1 + 4 * lambert_w(crowding * math.exp(-1.5))


def farthest_neighbours(filtering: Bilateral) -> Picture:
    """Return a picture whose middle pixel sees neighbours equally far above and below it: where B stretches most."""
    contrast = math.sqrt(2 * (1.5 + lambert_w(filtering.crowding() * math.exp(-1.5))))
    x = torch.full((filtering.height, filtering.width), contrast, dtype=torch.float64)
    x.view(-1)[: x.numel() // 2] *= -1  # a window and its mirror image weigh the same
    x[filtering.height // 2, filtering.width // 2] = 0
    return x * filtering.sigma_intensity


def lambert_w(value: float) -> float:
    """Return W0: the w >= 0 with w e^w = value >= 0."""
    w = math.log1p(value)
    for _ in range(50):  # Newton's method on a convex function, from above
        w -= (w * math.exp(w) - value) / (math.exp(w) * (1 + w))
    return w


def two_pixels(distance: float) -> Picture:
    """Return the picture (-distance, distance)."""
    return torch.tensor([[-distance, distance]], dtype=torch.float64)


def expanding_pair() -> tuple[Measured, ...]:
    """Against C.7: (-1, 1) against (-1.05, 1.05), sigma_r = 1, sigma_s without limit; and a mirrored edge."""
    x, reference = two_pixels(1.0), two_pixels(1.05)
    pair = Bilateral.of(x, kernel=3, sigma_spatial=1e9, sigma_intensity=1.0)
    apart = (x - reference).norm().item()
    flat = torch.zeros(3, 3, dtype=torch.float64)
    mirror = Bilateral.of(flat, kernel=3, edge="reflect")
    return (
        Measured(
            what="|B(x) - B(r)| / |x - r|", value=(pair(x) - pair(reference)).norm().item() / apart, bound=1.0
        ),
        Measured(what="|B(x) - r| / |x - r|", value=(pair(x) - reference).norm().item() / apart, bound=1.0),
        Measured(
            what="2-norm of W on a constant picture, mirrored at its edge",
            value=torch.linalg.matrix_norm(mirror.matrix(flat), 2).item(),
            bound=1.0,
        ),
    )
