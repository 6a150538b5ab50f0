"""C.7: the bilateral filter."""

import torch

from evenreel.theory import filter as bilateral
from evenreel.theory.filter import Bilateral
from evenreel.theory.measured import Measured, draw
from evenreel.theory.statement import Statement


def _check() -> tuple[Measured, ...]:
    whole, mirrored = Bilateral(height=5, width=5), Bilateral(height=8, width=8, edge="reflect")
    x, reference = draw(8, 8, seed=1), draw(8, 8, seed=2)
    # Where sigma_r is large the weights are those of distance alone, and a lone pixel shows the whole of S / (1 + S).
    blur, lone = Bilateral(height=5, width=5, sigma_intensity=1e6), torch.ones(5, 5, dtype=torch.float64)
    lone[2, 2] = 0
    return (
        bilateral.error_in_max_norm(blur, lone + 0.5, lone),
        bilateral.error_in_two_norm(mirrored, x, reference),
        *bilateral.norms_of_matrix(mirrored, x),
        bilateral.expansion(whole, bilateral.farthest_neighbours(whole)),
    )


STATEMENTS = (
    Statement(
        ids=("C.7", "4.7"),
        title="The bilateral filter is non-expansive",
        claim="|B(x) - r| <= |x - r| for a filtered x and a clean reference r.",
        hypotheses="weights that are positive and sum to 1",
        status="false as stated",
        fault="It needs B(r) = r, which holds for constants only. Rows that sum to 1 bound the max-norm, not the "
        "2-norm (the step between them costs sqrt(n)). And weights that depend on x let two pictures be "
        "pushed apart.",
        gist="|B(x) - B(y)| <= (1 + 4 W0(S e^-1.5)) |x - y| in the max-norm",
        truth="Max-norm: |B(x) - r| <= |x - r| + S/(1+S) osc(r). 2-norm: |B(x) - r| <= sqrt(kappa) |x - r| + "
        "|(W(x) - I) r|, kappa the largest column sum of W(x), sqrt(kappa) <= sqrt(1 + S'). Max-norm, two "
        "pictures: |B(x) - B(y)| <= (1 + 4 W0(S e^-1.5)) |x - y|, and <= |x - y| where no window of either "
        "ranges over more than sigma_r.",
        conditions="centre weight 1; S the largest sum of the other weights by distance in a window; osc(r) the "
        "largest difference between a pixel of r and one of its window; S' the same sum over the windows "
        "that look at a pixel (S' = S unless edges are mirrored); W0 Lambert's function",
        why="First: B(x)_i - r_i = sum W_ij (x_j - r_j) + sum W_ij (r_j - r_i), and off the centre W weighs at "
        "most S/(1+S). Second: B(x) - r = W (x - r) + (W - I) r, |W|_2 <= sqrt(|W|_1 |W|_inf), and rows "
        "sum to 1; columns sum to at most 1 + S' as every k_i >= 1. Third: with v_j = (x_j - x_i) / "
        "sigma_r and b their mean, row i of the Jacobian holds W_ij (1 - v_j (v_j - b)) and sums to 1, so "
        "its absolute sum is 1 + 2 sum W_ij (v_j (v_j - b) - 1)^+. That is at most 1 + 2 c with c = S * 2 "
        "e^-(3+c)/2 (weigh each neighbour by e^(-v^2/2), and maximise; a mean b off zero adds at most "
        "v^2/4 for neighbours that add nothing else, which never pays), so c = 2 W0(S e^-1.5). In a window "
        "of range <= sigma_r all v (v - b) <= 1.",
        sharp="First: reached as sigma_r grows. Second: not sharp. Third: reached, by a pixel whose neighbours "
        "stand half above and half below it, sigma_r sqrt(2 (1.5 + W0)) away.",
        meaning="With kernel 5 and sigma_spatial 1 (S = 5.17) a difference can grow 3.48-fold in one filtering, "
        "though only in noise that is rougher than sigma_intensity.",
        design="The earlier derivation has 1 + 4 W0(S / e), which is true but 4.32 instead of 3.48; no factor "
        "S/(1+S); and sqrt(max k / min k) for sqrt(kappa), which fails at mirrored edges, where the kernel "
        "is not symmetric (a constant picture has max k = min k, and |W|_2 = 1.15 for 3 x 3).",
        counterexample=bilateral.expanding_pair,
        check=_check,
    ),
)
