"""Shared and frame-specific tokens: C.15.

The adapter's tokens are Z = [T; H V; C]: T shared and free, H the vision tokens of a frame (N_u x d) times one free
matrix V, C the frozen text. The wanted tokens are Z* = [T*; U*; C*].
"""

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.theory.measured import Measured

Rows = Float[Tensor, "rows width"]


def left_over(vision: Rows, wanted: Float[Tensor, "rows outer"]) -> float:
    """Return |(I - H H^+) U*|: what no linear map of the vision tokens H reaches of the wanted tokens U*."""
    basis, values, _ = torch.linalg.svd(vision, full_matrices=False)
    basis = basis[:, values > values[0] * max(vision.shape) * torch.finfo(vision.dtype).eps]
    return (wanted - basis @ (basis.T @ wanted)).norm().item()


def rank(vision: Rows) -> int:
    """Return rank H; all U* are within reach where it equals the number of rows."""
    return int(torch.linalg.matrix_rank(vision))


def reached_share(vision: Rows) -> float:
    """Return the share of the squared norm of a random U* that some V reaches: rank H / N_u."""
    return rank(vision) / len(vision)


def best_map(vision: Rows, wanted: Float[Tensor, "rows outer"]) -> Float[Tensor, "width outer"]:
    """Return V = H^+ U*, found by least squares."""
    return torch.linalg.pinv(vision) @ wanted


def alignment(
    vision: Rows,
    wanted: Float[Tensor, "rows outer"],
    text: Float[Tensor, "text outer"],
    text_wanted: Float[Tensor, "text outer"],
    mapping: Float[Tensor, "width outer"] | None = None,
) -> Measured:
    """Measure C.15, put right: |Z - Z*|^2 >= |(I - H H^+) U*|^2 + |C - C*|^2, whatever the map; equal for the best one.

    The shared tokens are taken to be right already. `mapping` None takes the best map.
    """
    mapping = best_map(vision, wanted) if mapping is None else mapping
    squared = (vision @ mapping - wanted).square().sum() + (text - text_wanted).square().sum()
    least = left_over(vision, wanted) ** 2 + (text - text_wanted).square().sum().item()
    return Measured(
        what="least |Z - Z*|^2 there is, against that of a map", value=least, bound=squared.item()
    )


def many_tokens() -> tuple[Measured, ...]:
    """Against C.15: 8 vision tokens of width 4, so N_u >= d as asked; the best map leaves an error."""
    vision, wanted = _drawn(8, 4)
    error = (vision @ best_map(vision, wanted) - wanted).norm().item()
    return (Measured(what="|H V - U*| for the best V, N_u = 8, d = 4", value=error, bound=0.0),)


def few_tokens() -> Measured:
    """Measure 3 vision tokens of width 4: N_u <= d, and the best map leaves nothing."""
    vision, wanted = _drawn(3, 4)
    error = (vision @ best_map(vision, wanted) - wanted).norm().item()
    return Measured(what="|H V - U*| for the best V, N_u = 3, d = 4", value=error, bound=0.0, slack=1e-12)


def _drawn(tokens: int, width: int) -> tuple[Tensor, Tensor]:
    # Drawn in float32: with this seed the numbers are those of an earlier derivation.
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(tokens, width, generator=generator).double() for _ in range(2))  # pyright: ignore[reportReturnType]
