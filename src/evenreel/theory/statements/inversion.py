"""C.6, C.8 and C.9: errors through inversion."""

import math

import torch

from evenreel.theory import inversion
from evenreel.theory.filter import Bilateral
from evenreel.theory.measured import Measured, draw
from evenreel.theory.statement import Statement


def _one_step() -> tuple[Measured, ...]:
    before, here = inversion.stable_diffusion_levels()[500:502]
    filtering = Bilateral(height=8, width=8, edge="reflect")
    x, reference = draw(8, 8, seed=1), draw(8, 8, seed=2)
    still = torch.zeros(8, 8, dtype=torch.float64)

    def eps(latents: torch.Tensor) -> torch.Tensor:
        return -2.0 * latents.sin()

    return (
        inversion.filtered_error(filtering, x, reference, eps, before, here, 2.0),
        # A reference that the filter keeps and an error that it does not see: the bound without its extra terms.
        inversion.filtered_error(
            Bilateral(height=8, width=8, kernel=1),
            x,
            still,
            lambda latents: -2.0 * latents,
            before,
            here,
            2.0,
        ),
    )


def _whole_run() -> tuple[Measured, ...]:
    levels = inversion.stable_diffusion_levels()
    limits = [
        Measured(
            what=f"product of C, l = {one:g}, against exp(2 l asinh(sigma)) / sqrt(a)",
            value=inversion.printed_product(levels, one),
            bound=inversion.printed_limit(levels[-1], one),
        )
        for one in (0.0, 0.5, 1.0, 2.0)
    ]
    norm = Measured(
        what="E|z| against sqrt(d), d = 1,024", value=inversion.expected_norm(1024), bound=math.sqrt(1024)
    )
    return inversion.growth(levels, 1.0), *limits, norm


STATEMENTS = (
    Statement(
        ids=("C.6", "C.8", "4.6", "4.8"),
        title="One inversion step multiplies the error by C",
        claim="|x_(t-1) - r_(t-1)| <= C |x_t - r_t|, C = (1 + (1 - alpha_t) / sqrt(1 - a_t) l) / sqrt(alpha_t); "
        "a contraction if C < 1.",
        hypotheses="the noise predictor is l-Lipschitz; the filter is non-expansive (C.7)",
        status="false as stated",
        fault="C.7 is false, so filtering itself adds error. C >= 1 / sqrt(alpha_t) > 1 always, so the case C < "
        "1 is empty. And eq. 12 is a stochastic step of DDPM's kind towards less noise, not DDIM "
        "inversion.",
        gist="error <= C (sqrt(kappa) error + |(W - I) r|)",
        truth="|x_(t-1) - r_(t-1)| <= C (sqrt(kappa) |x_t - r_t| + |(W(x_t) - I) r_t|). For the deterministic "
        "step from level a to a' that is taken in fact: C = sqrt(a'/a) + |sqrt(1 - a') - sqrt(a' (1 - a) / "
        "a)| l, which is below 1 towards more noise if l is small.",
        conditions="eps is l-Lipschitz; x is filtered and r is not; kappa and W as in C.7",
        why="The step is linear in x and eps(x): the triangle inequality gives C for what enters it, and C.7 "
        "bounds that.",
        sharp="C is reached by eps(x) = -l x. With the filter the bound is not sharp.",
        meaning="A filter inside the inversion is a change of the clip, of size |(W - I) r|, not a correction that "
        "errors die out under.",
        design="kappa is the largest column sum here (see C.7). The constant of the deterministic step is added.",
        counterexample=inversion.filtered_pair,
        check=_one_step,
    ),
    Statement(
        ids=("C.9", "4.9"),
        title="Errors add up to a series that converges",
        claim="After T steps the error is at most C^T delta + sum_k C^k (...), with E|z| = sqrt(d) for the "
        "noise, and converges.",
        hypotheses="C.8 at every step, with one C",
        status="holds in part",
        fault="E|z| < sqrt(d). C varies from step to step, so powers have to be products. C > 1, so neither C^T "
        "nor the sum of C^k converges as T grows.",
        gist="product of C_t: finite, <= exp(2 l asinh(sigma)) / sqrt(a)",
        truth="The error after T steps is at most prod C_t delta + sum of what each step adds, times the C of "
        "the steps still to come: finite for finite T. On a schedule that ends at a, prod C_t <= exp(2 l "
        "asinh(sigma)) / sqrt(a), sigma = sqrt((1 - a) / a), and tends to it as steps get finer. The "
        "product of deterministic inversion tends to sqrt(a_T / a_0) exp(l (asinh(sigma_T) - "
        "asinh(sigma_0))).",
        conditions="l a Lipschitz constant at every timestep; without filtering, or with sqrt(kappa_t) C_t for C_t",
        why="Induction. log C_t <= u/2 + l (1 - e^-u) / sqrt(1 - a_t) with u = -log alpha_t, a lower sum of "
        "the integral of 1/2 + l / sqrt(1 - e^-v) from 0 to -log a, which is -log(a)/2 + 2 l asinh(sigma). "
        "E|z| = sqrt(2) Gamma((d+1)/2) / Gamma(d/2).",
        sharp="The product is reached by eps(x) = -l x at every step; the closed form is approached in fine "
        "steps.",
        meaning="On Stable Diffusion's schedule the product is 14.65, 412, 11,450 and 8.5 million for l = 0, 0.5, "
        "1 and 2 (limits 14.65, 429, 12,500, 10.7 million): finite, and of no use as a promise. "
        "Deterministic inversion has 0.07, 0.36, 1.9 and 55 in the limit.",
        design="The closed forms are added; the products agree with those of the earlier derivation.",
        counterexample=inversion.diverging_series,
        check=_whole_run,
    ),
)
