"""The temporal loss of features: C.1 to C.5, and what it means for frames to have none of it.

Notation: frames F_1 .. F_T as rows; s_t = cos(F_t, F_t+1); L_temp = 1/(T-1) * sum over the T-2 interior frames of
(s_t - s_t-1)^2; m = the smallest norm of a frame.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.theory.measured import Measured, draw

Features = Float[Tensor, "frames features"]
"""One flattened feature map for each frame."""

_STEEPEST = (math.sqrt(73) - 1) / 12
STEEPEST = 6 * math.sin(2 * math.acos(_STEEPEST)) + 4 * math.sin(math.acos(_STEEPEST))
"""8.977...: the largest gradient of a frame, times (T-1) m. Reached from 5 frames on."""
CURVATURE = 32.0
"""The gradient's Lipschitz constant, times (T-1) m^2. Approached as the frames get more."""


def cosines(features: Features) -> Float[Tensor, "pairs"]:
    """Return the similarity of each frame and the next."""
    directions = features / features.norm(dim=1, keepdim=True)
    return (directions[1:] * directions[:-1]).sum(1)


def temporal_loss(features: Features) -> Float[Tensor, ""]:
    """Return L_temp, of at least 2 frames (GE eq. 4, summed over the frames that have two neighbours)."""
    return cosines(features).diff().square().sum() / (len(features) - 1)


def smallest_norm(features: Features) -> float:
    """Return m: the norm of the shortest frame."""
    return features.norm(dim=1).min().item()


def gradient_of_cosine(one: Float[Tensor, "features"], other: Float[Tensor, "features"]) -> Measured:
    """Measure C.2: the gradient with respect to `one` has norm sin(angle) / norm(one), at most 1 / norm(one)."""
    leaf = one.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(torch.cosine_similarity(leaf, other, dim=0, eps=0.0), leaf)
    return Measured(what="norm of grad cos", value=gradient.norm().item(), bound=1 / one.norm().item())


def taylor_remainder(features: Features, *, reach: float = 1e-3) -> Measured:
    """Measure C.1 and C.3: over a way h the loss leaves its tangent by at most L h^2 / 2, so it has one."""
    lipschitz = lipschitz_bound(features)
    way = draw(*features.shape, seed=0).to(features)
    # Across the frames, so that none gets shorter.
    way = way - features * (way * features).sum(1, keepdim=True) / features.square().sum(1, keepdim=True)
    way = way * (reach * smallest_norm(features) / max(way.norm().item(), 1e-300))
    tangent = temporal_loss(features) + (gradients(features) * way).sum()
    gap = (temporal_loss(features + way) - tangent).abs().item()
    return Measured(
        what="distance of L_temp from its tangent", value=gap, bound=lipschitz * way.norm().item() ** 2 / 2
    )


def gradients(features: Features) -> Features:
    """Return the gradient of L_temp with respect to every frame."""
    leaf = features.detach().clone().requires_grad_(True)
    return torch.autograd.grad(temporal_loss(leaf), leaf)[0]


def largest_gradient(features: Features) -> Measured:
    """Measure C.3, first half: no frame's gradient is longer than 8.977 / ((T-1) m)."""
    return Measured(
        what="longest gradient of a frame",
        value=gradients(features).norm(dim=1).max().item(),
        bound=STEEPEST / ((len(features) - 1) * smallest_norm(features)),
    )


def lipschitz_bound(features: Features) -> float:
    """Return L = 32 / ((T-1) m^2)."""
    return CURVATURE / ((len(features) - 1) * smallest_norm(features) ** 2)


def curvature(features: Features, *, iterations: int = 60) -> Measured:
    """Measure C.3, second half: the Hessian's norm, by power iteration, against L = 32 / ((T-1) m^2)."""
    leaf = features.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(temporal_loss(leaf), leaf, create_graph=True)
    vector, norm = draw(*features.shape, seed=0).to(features), 0.0
    for _ in range(iterations if gradient.requires_grad else 0):
        vector = vector / vector.norm()
        (image,) = torch.autograd.grad(gradient, leaf, vector, retain_graph=True)
        norm, vector = max(norm, image.norm().item()), image
        if norm == 0:
            break
    return Measured(what="norm of the Hessian", value=norm, bound=lipschitz_bound(features))


def change_of_gradient(one: Features, other: Features) -> Measured:
    """Measure C.3 between two clips: how far the gradient moves for a unit of motion.

    The bound is that of the shorter frames; frames may not come nearer to zero on the straight way between the clips.
    """
    motion = (one - other).norm().item()
    bound = max(lipschitz_bound(one), lipschitz_bound(other))
    moved = (gradients(one) - gradients(other)).norm().item()
    return Measured(what="change of the gradient / change of the features", value=moved / motion, bound=bound)


def descent(features: Features, step_size: float, steps: int) -> Iterator[Features]:
    """Descend along the gradient on the features themselves; yields the start, then each step's result."""
    yield features
    for _ in range(steps):
        features = features - step_size * gradients(features)
        yield features


def descends(features: Features, *, step_share: float, steps: int) -> tuple[Measured, ...]:
    """Measure C.4: descent with eta = `step_share` * 2 / L, for 0 < `step_share` < 1."""
    lipschitz = lipschitz_bound(features)
    eta = step_share * 2 / lipschitz
    path = list(descent(features, eta, steps))
    losses = [temporal_loss(point).item() for point in path]
    smallest = min(gradients(point).square().sum().item() for point in path[:-1])
    growth = path[-1].square().sum().item() - features.square().sum().item()
    sure = eta * (1 - eta * lipschitz / 2)
    return (
        Measured(
            what="largest rise of L_temp in a step",
            value=max(after - before for before, after in pairwise(losses)),
            bound=0.0,
        ),
        Measured(
            what="smallest squared gradient on the way", value=smallest, bound=losses[0] / (steps * sure)
        ),
        Measured(
            what="fall of the smallest norm",
            value=max(smallest_norm(features) - smallest_norm(point) for point in path),
            bound=0.0,
        ),
        Measured(
            what="growth of the squared norms",
            value=growth,
            bound=eta**2 * (losses[0] - losses[-1]) / sure,
        ),
    )


def quadratic_form(features: Features) -> Measured:
    """Measure C.5: L_temp = norm(D s)^2 / (T-1), D the first difference: a (T-2) x (T-1) matrix."""
    similarities = cosines(features)
    pairs = len(similarities)
    difference = (torch.eye(pairs).diff(dim=0)).to(similarities)
    form = (difference @ similarities).square().sum() / pairs
    gap = abs(form.item() - temporal_loss(features).item())
    return Measured(what="abs(L_temp - norm(D s)^2 / (T-1))", value=gap, bound=0.0)


def convex_in_similarities(one: Float[Tensor, "pairs"], other: Float[Tensor, "pairs"]) -> Measured:
    """Measure C.5: at the middle of two rows of similarities the loss is at most the mean of both."""
    middle, ends = (one + other) / 2, (one, other)
    mean = sum(end.diff().square().mean().item() for end in ends) / 2
    return Measured(
        what="loss at the middle against the mean", value=middle.diff().square().mean().item(), bound=mean
    )


def on_circle(degrees: Sequence[float | int], norm: float = 1.0) -> Features:
    """Return frames of two features: points on a circle."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return norm * torch.stack([angles.cos(), angles.sin()], dim=1)


def steepest_clip() -> Features:
    """Return five frames, of which the middle one has the longest gradient that there is."""
    angle = math.degrees(math.acos(_STEEPEST))
    # From the middle one neighbour stands at `angle`, the other at 180 - `angle`; those behind them are opposite
    # to the first and equal to the second.
    return on_circle([angle + 180, angle, 0, angle - 180, angle - 180])


def most_curved_clip(frames: int) -> Features:
    """Return frames that agree and oppose in turn: s = 1, -1, 1, ..., where the loss is largest."""
    return on_circle([180.0 * (t // 2 % 2) for t in range(frames)])


def undefined_at_zero() -> tuple[Measured, ...]:
    """Against C.1, with M = 1: F = (1e-12, 0) and F = (-1e-12, 0) beside G = (1, 0). C.2 allows a slope of 2 / M."""
    tiny, other = 1e-12, [1.0, 0.0]
    here, there = (
        cosines(torch.tensor([[sign * tiny, 0.0], other], dtype=torch.float64)).item() for sign in (1, -1)
    )
    return (Measured(what="change of cos over a way of 2e-12", value=here - there, bound=2 * 2 * tiny),)


def short_frame() -> tuple[Measured, ...]:
    """Against C.2: M = 1, F = (0.01, 0), G = (0, 1)."""
    found = gradient_of_cosine(*torch.tensor([[0.01, 0], [0, 1]], dtype=torch.float64))
    return (Measured(what=found.what, value=found.value, bound=2 / 1.0),)


def turned_frame() -> tuple[Measured, ...]:
    """Against C.3: T = 3, F = M (1,0), (0,1), (-1,0) with M = 0.01, and the middle frame turned by 0.001."""
    norm = 0.01
    straight, turned = on_circle([0, 90, 180], norm), on_circle([0, 90 - math.degrees(1e-3), 180], norm)
    found = change_of_gradient(straight, turned)
    short = largest_gradient(on_circle([0, 45, 180], norm / 5))  # frames of norm M / 5 are bounded by M too
    return (
        Measured(what=found.what, value=found.value, bound=16 / norm),
        Measured(what=f"{short.what} (norm M / 5)", value=short.value, bound=8 * 1 / (norm * 2)),
    )


def overshooting_step() -> tuple[Measured, ...]:
    """Against C.4: M = 0.05, the printed rule's eta just below 2 / (16 / M); and a start that is the maximum."""
    norm = 0.05
    # s = c, -c with L_temp = 2 c^2 = 0.066.
    angle = math.degrees(math.acos(math.sqrt(0.033)))
    features = on_circle([0, angle, 180], norm)
    *_, after = descent(features, 1.97 / (16 / norm), 1)
    top = torch.tensor([[1, 0], [1, 0], [-1, 0]], dtype=torch.float64)
    *_, stuck = descent(top, 1.0, 100)
    return (
        Measured(
            what="L_temp after one step, against before",
            value=temporal_loss(after).item(),
            bound=temporal_loss(features).item(),
        ),
        Measured(
            what="L_temp after 100 steps from its maximum", value=temporal_loss(stuck).item(), bound=0.0
        ),
    )


def not_convex_in_features() -> tuple[Measured, ...]:
    """What C.5 does not say: two clips without loss (opposite turns, bent to meet), and the clip half way
    between.
    """
    one, other = on_circle([0, 80, 160]), on_circle([0, 80, 0])
    middle = (one + other) / 2
    mean = (temporal_loss(one) + temporal_loss(other)).item() / 2
    return (
        Measured(
            what="L_temp half way between two clips, against their mean",
            value=temporal_loss(middle).item(),
            bound=mean,
        ),
    )


def worst_flicker(frames: int = 8) -> tuple[Measured, ...]:
    """Against reading L_temp as likeness: frames +v, -v, +v, ... have none of it, and are as unlike as can be."""
    features = on_circle([180.0 * (t % 2) for t in range(frames)])
    loss, unlikeness = temporal_loss(features).item(), 1 - cosines(features).mean().item()
    return (Measured(what=f"1 - mean similarity at L_temp = {loss:.0e}", value=unlikeness, bound=loss),)


def even_motion(degrees: float, frames: int = 8) -> Measured:
    """Measure L_temp of frames that turn by the same angle each time: zero, whatever the angle."""
    loss = temporal_loss(on_circle([degrees * t for t in range(frames)])).item()
    return Measured(what=f"L_temp at {degrees:g} degrees a frame", value=loss, bound=0.0)


def frame_zero(frames: int = 8) -> tuple[Measured, ...]:
    """Eq. 4 as printed sums (s_t - s_t-1)^2 over t = 1 .. T-1: the similarities that it names need a frame 0.

    And the weights of the two losses: 1 and 0.01 in eq. 6, the other way round in eq. 19.
    """
    named = {pair for t in range(1, frames) for pair in (t, t - 1)}
    needed = {frame for pair in named for frame in (pair, pair + 1)}
    return (
        Measured(
            what=f"frames that eq. 4 needs for T = {frames}", value=float(len(needed)), bound=float(frames)
        ),
        Measured(
            what="temporal over diffusion weight, eq. 6 over eq. 19", value=(1 / 0.01) / (0.01 / 1), bound=1.0
        ),
    )
