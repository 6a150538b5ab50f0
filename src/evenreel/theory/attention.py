"""Cross-attention under changed tokens: C.10 to C.14.

Notation: X holds M queries' inputs, Z the L tokens; S = row softmax(X W_Q W_K^T Z^T / sqrt(d)); the output is
A(X, Z) = S Z W_V. Stars mark the wanted tokens and what they make; dZ = Z - Z*.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.theory.measured import Measured

Queries = Float[Tensor, "queries inner"]
Tokens = Float[Tensor, "tokens outer"]
Scores = Float[Tensor, "queries tokens"]


@dataclass(frozen=True)
class Head:
    """One attention head; matrices act on row vectors from the right."""

    to_q: Float[Tensor, "inner d"]
    to_k: Float[Tensor, "outer d"]
    to_v: Float[Tensor, "outer values"]

    def mixed(self) -> Float[Tensor, "inner outer"]:
        """Return W_Q W_K^T / sqrt(d): what stands between X and Z."""
        return self.to_q @ self.to_k.T / math.sqrt(self.to_q.shape[1])

    def scores(self, x: Queries, z: Tokens) -> Scores:
        """Return the scores that the softmax sees, X W_Q W_K^T Z^T / sqrt(d)."""
        return x @ self.mixed() @ z.T

    def weights(self, x: Queries, z: Tokens) -> Scores:
        """Return the weights S, whose rows add up to 1."""
        return self.scores(x, z).softmax(-1)

    def __call__(self, x: Queries, z: Tokens) -> Float[Tensor, "queries values"]:
        """A(X, Z)."""
        return self.weights(x, z) @ z @ self.to_v


def _norm(matrix: Tensor) -> float:
    return torch.linalg.matrix_norm(matrix, 2).item()


def output_error(head: Head, x: Queries, z: Tokens, x_star: Queries, z_star: Tokens) -> Measured:
    """Measure C.10, put right, in Frobenius norms:

    |A - A*| <= sqrt(M) |W_V| |dZ|_F
                + |Z* W_V| / (2 sqrt d) (|X W_Q W_K^T| |dZ|_F + |W_Q W_K^T Z*^T| |X - X*|_F)
    """
    moved, asked = (z - z_star).norm().item(), (x - x_star).norm().item()
    scores = _norm(x @ head.mixed()) * moved + _norm(head.mixed() @ z_star.T) * asked
    bound = math.sqrt(len(x)) * _norm(head.to_v) * moved + _norm(z_star @ head.to_v) / 2 * scores
    return Measured(
        what="attention error (Frobenius)",
        value=(head(x, z) - head(x_star, z_star)).norm().item(),
        bound=bound,
    )


def row_error(head: Head, x: Queries, z: Tokens, x_star: Queries, z_star: Tokens) -> Measured:
    """Return the same for the worst query, without sqrt(M):

    |A_i - A*_i| <= max_j |dz_j W_V| + 1/4 range_j(scores_ij - scores*_ij) * diameter of the rows of Z* W_V
    """
    values = z_star @ head.to_v
    change = head.scores(x, z) - head.scores(x_star, z_star)
    spread = change.amax(1) - change.amin(1)
    bound = (
        ((z - z_star) @ head.to_v).norm(dim=1).max()
        # Weights are a probability: however far the scores move, the output stays within the diameter.
        + (spread / 4).clamp(max=1) * torch.cdist(values, values).max()
    )
    error = (head(x, z) - head(x_star, z_star)).norm(dim=1)
    worst = (error / bound.clamp(min=1e-300)).argmax()
    return Measured(
        what="attention error of the worst query", value=error[worst].item(), bound=bound[worst].item()
    )


def decomposition(head: Head, x: Queries, z: Tokens, x_star: Queries, z_star: Tokens) -> Measured:
    """Measure C.11: A - A* = S dZ W_V + (S - S*) Z* W_V, with S* made from X* W_Q; the gap between both sides."""
    weights, weights_star = head.weights(x, z), head.weights(x_star, z_star)
    sides = weights @ (z - z_star) @ head.to_v + (weights - weights_star) @ z_star @ head.to_v
    whole = head(x, z) - head(x_star, z_star)
    scale = weights.norm() * z.norm() * head.to_v.norm() + whole.norm()
    return Measured(
        what="gap between both sides",
        value=(whole - sides).norm().item(),
        bound=0.0,
        slack=1e-12 * scale.item(),
    )


def softmax_change(one: Scores, other: Scores) -> Measured:
    """Measure C.12, sharp: |softmax(a) - softmax(b)|_F <= |a - b|_F / 2."""
    change = (one.softmax(-1) - other.softmax(-1)).norm().item()
    return Measured(what="change of the softmax", value=change, bound=(one - other).norm().item() / 2)


def softmax_norm(scores: Scores) -> tuple[Measured, ...]:
    """Measure C.13, put right: sqrt(M / L) <= |S|_F <= sqrt(M) for M rows of L weights."""
    queries, tokens = scores.shape
    norm = scores.softmax(-1).norm().item()
    return (
        Measured(what="Frobenius norm of S against sqrt(M)", value=norm, bound=math.sqrt(queries)),
        Measured(what="sqrt(M / L) against the norm of S", value=math.sqrt(queries / tokens), bound=norm),
    )


def _identity_head(size: int, key_scale: float = 1.0) -> Head:
    eye = torch.eye(size, dtype=torch.float64)
    return Head(eye, key_scale * eye, eye)


def changed_query() -> tuple[Measured, ...]:
    """Against C.10: d = 1, Z = Z* = (1, -1), X* = 0, X = 1; no token differs, so the printed bound is 0."""
    z, one = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    error = output_error(_identity_head(1), one, z, 0 * one, z)
    return (Measured(what=error.what, value=error.value, bound=0.0),)


def wrong_query() -> tuple[Measured, ...]:
    """What C.11's later use does: S* made from X instead of X*; then the two terms miss the error."""
    head, z = _identity_head(1), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    x, x_star = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    whole = head(x, z) - head(x_star, z)
    terms = (head.weights(x, z) - head.weights(x, z)) @ z  # dZ = 0, and both S are made from X
    return (
        Measured(what="part of the error that is missed", value=(whole - terms).norm().item(), bound=0.0),
    )


def one_hot_rows() -> tuple[Measured, ...]:
    """Against C.13: four rows that each choose one token."""
    norm = (1e3 * torch.eye(4, dtype=torch.float64)).softmax(-1).norm().item()
    return (Measured(what="Frobenius norm of S", value=norm, bound=1.0),)


def absorbed_constant() -> tuple[Measured, ...]:
    """Against C.14: W_V = I cannot hide in a constant made from W_K = 0.001 I. One query, two tokens of width 3."""
    ones = torch.ones(2, 3, dtype=torch.float64)
    x = ones[:1]
    error = output_error(_identity_head(3, 1e-3), x, ones, x, 0 * ones)
    return (Measured(what=error.what, value=error.value, bound=1e-3 * ones.norm().item()),)
