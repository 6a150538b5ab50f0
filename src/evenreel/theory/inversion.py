"""How errors grow through inversion: C.6, C.8 and C.9.

The papers' step (eq. 12 without its noise), with alpha_t = 1 - beta_t and a_t the product of alphas up to t:

    x_{t-1} = (x'_t - (1 - alpha_t) / sqrt(1 - a_t) eps(x'_t, t)) / sqrt(alpha_t),     x'_t = B(x_t)

The step that inversion takes in fact (DDIM, arXiv:2010.02502, eq. 12), from level a to a':

    x' = sqrt(a' / a) x + (sqrt(1 - a') - sqrt(a' (1 - a) / a)) eps(x)

l is a Lipschitz constant of eps in the 2-norm.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.theory.filter import Bilateral, Picture, column_sum
from evenreel.theory.measured import Measured, draw, spectral_norm

Predictor = Callable[[Tensor], Tensor]


def stable_diffusion_levels() -> list[float]:
    """Return 1, a_1 .. a_1000 of Stable Diffusion: betas whose roots go evenly from sqrt(0.00085) to sqrt(0.012)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return [1.0, *torch.cumprod(1 - betas, 0).tolist()]


def printed_step(x: Tensor, eps: Predictor, before: float, here: float) -> Tensor:
    """Make the step of eq. 12 without noise, from a_t = `here` to a_{t-1} = `before` (which is larger)."""
    alpha = here / before
    return (x - (1 - alpha) / math.sqrt(1 - here) * eps(x)) / math.sqrt(alpha)


def printed_constant(before: float, here: float, lipschitz: float) -> float:
    """Return C = (1 + (1 - alpha_t) / sqrt(1 - a_t) l) / sqrt(alpha_t), always above 1."""
    alpha = here / before
    return (1 + (1 - alpha) / math.sqrt(1 - here) * lipschitz) / math.sqrt(alpha)


def printed_product(levels: Sequence[float], lipschitz: float | Sequence[float]) -> float:
    """Return C of the steps between falling levels (1.0, a_1, .. a_T), multiplied; one l for all steps, or one for
    each."""
    each = _each(lipschitz, len(levels) - 1)
    return math.prod(printed_constant(*pair, one) for pair, one in zip(pairwise(levels), each, strict=True))


def printed_limit(last: float, lipschitz: float) -> float:
    """Return exp(2 l asinh(sigma)) / sqrt(a), sigma = sqrt((1 - a) / a), for levels from 1 to a = `last`.

    No product is above it, and products tend to it as steps get finer.
    """
    return math.exp(2 * lipschitz * math.asinh(noise_to_signal(last))) / math.sqrt(last)


def noise_to_signal(level: float) -> float:
    """Return sigma = sqrt((1 - a) / a)."""
    return math.sqrt((1 - level) / level)


def ddim_step(x: Tensor, eps: Predictor, level: float, target: float) -> Tensor:
    """Return one deterministic step, either way."""
    shift = math.sqrt(1 - target) - math.sqrt(target * (1 - level) / level)
    return math.sqrt(target / level) * x + shift * eps(x)


def ddim_constant(level: float, target: float, lipschitz: float) -> float:
    """Return sqrt(a' / a) + abs(sqrt(1 - a') - sqrt(a' (1 - a) / a)) l: below 1 towards more noise, if l is small."""
    shift = math.sqrt(1 - target) - math.sqrt(target * (1 - level) / level)
    return math.sqrt(target / level) + abs(shift) * lipschitz


def ddim_product(levels: Sequence[float], lipschitz: float | Sequence[float]) -> float:
    """Return the constants of a run through `levels`, multiplied; one l for all steps, or one for each."""
    each = _each(lipschitz, len(levels) - 1)
    return math.prod(
        ddim_constant(level, target, one) for (level, target), one in zip(pairwise(levels), each, strict=True)
    )


def ddim_limit(first: float, last: float, lipschitz: float) -> float:
    """Return what `ddim_product` tends to in fine steps: sqrt(a_T / a_0) exp(l (asinh(sigma_T) - asinh(sigma_0)))."""
    way = math.asinh(noise_to_signal(last)) - math.asinh(noise_to_signal(first))
    return math.sqrt(last / first) * math.exp(lipschitz * way)


def filtered_error(
    filtering: Bilateral,
    x: Picture,
    reference: Picture,
    eps: Predictor,
    before: float,
    here: float,
    lipschitz: float,
) -> Measured:
    """Measure C.6 and C.8, put right: a step on the filtered x, against the step on an unfiltered reference r.

    Bound: C (sqrt(kappa) |x - r| + |(W(x) - I) r|).
    """
    matrix, flat = filtering.matrix(x), reference.double().flatten()
    drift = (matrix @ flat - flat).norm().item()
    kept = math.sqrt(column_sum(matrix)) * (x - reference).norm().item() + drift
    after = printed_step(filtering(x), eps, before, here) - printed_step(reference, eps, before, here)
    return Measured(
        what="error after a filtered step",
        value=after.norm().item(),
        bound=printed_constant(before, here, lipschitz) * kept,
    )


def growth(levels: Sequence[float], lipschitz: float, *, size: int = 4) -> Measured:
    """Measure C.9, put right: the error of a whole run of printed steps, with the predictor eps(x) = -l x, which
    reaches it."""
    error = start = draw(size, seed=0)
    for before, here in reversed(list(pairwise(levels))):
        error = printed_step(error, lambda x: -lipschitz * x, before, here)
    return Measured(
        what=f"growth of an error over {len(levels) - 1} steps, l = {lipschitz:g}",
        value=(error.norm() / start.norm()).item(),
        bound=printed_product(levels, lipschitz),
    )


def expected_norm(size: int) -> float:
    """Return E |z| of a standard normal z of `size` numbers: sqrt(2) Gamma((n+1)/2) / Gamma(n/2), below sqrt(n)."""
    return math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))


def jacobian_norm(
    eps: Predictor,
    x: Float[Tensor, "*shape"],
    *,
    iterations: int = 8,
    reach: float = 1e-2,
    start: Tensor | None = None,
) -> float:
    """Return the largest stretch of small differences by `eps` at x: a lower bound of its Lipschitz constant.

    Power iteration; derivatives along a direction are central differences (fused attention has no forward mode) over
    `reach` times the size of x.
    """
    step = reach * x.norm().item()

    def along(direction: Tensor) -> Tensor:
        with torch.no_grad():
            return (eps(x + step * direction) - eps(x - step * direction)) / (2 * step)

    def back(image: Tensor) -> Tensor:
        leaf = x.detach().clone().requires_grad_(True)
        return torch.autograd.grad(eps(leaf), leaf, image)[0]

    start = draw(*x.shape, seed=0).to(x) if start is None else start
    return spectral_norm(along, back, start, iterations=iterations)


def filtered_pair() -> tuple[Measured, ...]:
    """Against C.6 and C.8: two pixels that the filter pulls together, a predictor that is constant (l = 0)."""
    x, reference = (torch.tensor([[-d, d]], dtype=torch.float64) for d in (1.0, 1.05))
    pair = Bilateral.of(x, kernel=3, sigma_spatial=1e9, sigma_intensity=1.0)
    before, here = stable_diffusion_levels()[500:502]
    stepped = [
        printed_step(one, torch.zeros_like, before, here) for one in (pair(x), pair(reference), reference)
    ]
    apart, constant = (x - reference).norm().item(), printed_constant(before, here, 0.0)
    return (
        Measured(
            what="error after a step on the filtered x",
            value=(stepped[0] - stepped[2]).norm().item(),
            bound=constant * apart,
        ),
        Measured(
            what="error after a step, both filtered",
            value=(stepped[0] - stepped[1]).norm().item(),
            bound=constant * apart,
        ),
        Measured(what="smallest C - 1 of the schedule", value=_smallest_constant() - 1, bound=0.0),
    )


def diverging_series() -> tuple[Measured, ...]:
    """Against C.9: the sum of C^k of a constant C > 1 passes every limit; here those of 100, 1,000 and 10,000 steps."""
    before, here = stable_diffusion_levels()[500:502]
    constant = printed_constant(before, here, 0.0)
    sums = [(constant**steps - 1) / (constant - 1) for steps in (100, 1_000, 10_000)]
    return (
        Measured(what="sum over 1,000 steps, against 2 x that over 100", value=sums[1], bound=2 * sums[0]),
        Measured(what="sum over 10,000 steps, against 2 x that over 1,000", value=sums[2], bound=2 * sums[1]),
        Measured(what="sqrt(d) in the place of E|z|, d = 4", value=math.sqrt(4), bound=expected_norm(4)),
    )


def _smallest_constant() -> float:
    return min(printed_constant(before, here, 0.0) for before, here in pairwise(stable_diffusion_levels()))


def _each(lipschitz: float | Sequence[float], steps: int) -> Sequence[float]:
    return [lipschitz] * steps if isinstance(lipschitz, int | float) else lipschitz
