"""C.10 to C.14: cross-attention."""

import torch

from evenreel.theory import attention
from evenreel.theory.attention import Head
from evenreel.theory.measured import Measured, draw
from evenreel.theory.statement import Statement


def _pair(seed: int) -> tuple[Head, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    head = Head(draw(6, 4, seed=seed), draw(5, 4, seed=seed + 1), draw(5, 4, seed=seed + 2))
    z_star = draw(7, 5, seed=seed + 3)
    x_star = draw(9, 6, seed=seed + 4)
    return (
        head,
        x_star + 0.1 * draw(9, 6, seed=seed + 5),
        z_star + 0.1 * draw(7, 5, seed=seed + 6),
        x_star,
        z_star,
    )


def _error() -> tuple[Measured, ...]:
    one = torch.ones(1, 1, dtype=torch.float64)
    pair, small = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), 1e-3 * one
    sharp = (Head(one, one, one), small, pair, 0 * one, pair)
    return (
        attention.output_error(*sharp),
        attention.row_error(*sharp),
        attention.output_error(*_pair(1)),
        attention.row_error(*_pair(1)),
    )


def _softmax() -> tuple[Measured, ...]:
    level = torch.zeros(1, 2, dtype=torch.float64)
    return (attention.softmax_change(level, level + torch.tensor([[1e-4, -1e-4]], dtype=torch.float64)),)


def _norms() -> tuple[Measured, ...]:
    one_hot, even = 1e3 * torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    return attention.softmax_norm(one_hot)[0], attention.softmax_norm(even)[1]


STATEMENTS = (
    Statement(
        ids=("C.10", "4.10"),
        title="The attention error is bounded by the tokens' error",
        claim="|A - A*| <= gamma |Z - Z*|, gamma made of the norms of W_Q, W_K, W_V and Z*.",
        hypotheses="bounded weights and tokens",
        status="false as stated",
        fault="The inputs of the queries differ too, and the bound forgets them: with equal tokens it is 0.",
        gist="one more term, in |X - X*|; by rows without sqrt(M)",
        truth="|A - A*|_F <= sqrt(M) |W_V| |dZ|_F + |Z* W_V| / (2 sqrt(d)) (|X W_Q W_K'| |dZ|_F + |W_Q W_K' Z*'| "
        "|X - X*|_F). For each query without sqrt(M): |A_i - A*_i| <= max_j |dz_j W_V| + 1/4 "
        "range_j(scores_ij - scores*_ij) diam(rows of Z* W_V).",
        conditions="M queries; inner norms are 2-norms; ' is the transpose; scores are what the softmax sees",
        why="C.11 splits the error. S has 2-norm <= sqrt(M) (C.13), the softmax is 1/2-Lipschitz (C.12), and "
        "the scores differ by X W_Q W_K' dZ' + (X - X*) W_Q W_K' Z*'. By rows: S_i averages the dz_j W_V; "
        "a probability that changes by q moves a mean by at most |q|_1 / 2 times the diameter; and "
        "|softmax(a) - softmax(b)|_1 <= range(a - b) / 2.",
        sharp="Both are approached by one query and two tokens, dZ = 0 and a small X - X*. In the packaged "
        "model's layers the first is 100 to 800 times too large, the second 1.4 to 2.8 times.",
        meaning="Tokens that match are not enough: what the earlier layers did to the queries counts as well.",
        design="The bound of the earlier derivation is right (its left side is the outputs' difference). The bound by "
        "rows is added.",
        counterexample=attention.changed_query,
        check=_error,
    ),
    Statement(
        ids=("C.11", "4.11"),
        title="The error splits in two",
        claim="A - A* = S (Z - Z*) W_V + (S - S*) Z* W_V.",
        hypotheses="S* = softmax(Q* K*' / sqrt(d))",
        status="holds",
        fault="The proof that uses it later takes X for X* in Q*, and so loses a part.",
        gist="as printed, with Q* = X* W_Q",
        truth="A - A* = S (Z - Z*) W_V + (S - S*) Z* W_V, with Q* = X* W_Q.",
        conditions="none",
        why="Add and take away S Z* W_V.",
        sharp="An identity.",
        meaning="The first part is what tokens bring, the second how attention is drawn elsewhere.",
        counterexample=attention.wrong_query,
        check=lambda: (attention.decomposition(*_pair(11)),),
    ),
    Statement(
        ids=("C.12", "4.12"),
        title="The softmax is Lipschitz",
        claim="|softmax(a) - softmax(b)| <= sqrt(d) |a - b|.",
        hypotheses="rows of d scores",
        status="holds",
        fault="It is loose: by 2 sqrt(d).",
        gist="1/2 instead of sqrt(d)",
        truth="|softmax(a) - softmax(b)|_F <= 1/2 |a - b|_F, row by row and altogether.",
        conditions="none",
        why="The Jacobian diag(p) - p p' has rows of absolute sum 2 p_i (1 - p_i) <= 1/2, and is symmetric.",
        sharp="Approached at p = (1/2, 1/2).",
        meaning="Attention is calmer than the papers' bound lets it seem.",
        check=_softmax,
    ),
    Statement(
        ids=("C.13", "4.13"),
        title="The attention matrix has norm at most 1",
        claim="|S|_F <= 1.",
        hypotheses="rows are probabilities",
        status="false as stated",
        fault="Each row alone may have norm 1.",
        gist="sqrt(M / L) <= |S|_F <= sqrt(M)",
        truth="sqrt(M / L) <= |S|_F <= sqrt(M) for M rows of L weights; the 2-norm too is at most sqrt(M).",
        conditions="rows are probabilities",
        why="A row's squared norm lies between 1/L (even) and 1 (one-hot).",
        sharp="Both ends are reached.",
        meaning="Bounds that go through |S| grow with the picture, as sqrt(M).",
        counterexample=attention.one_hot_rows,
        check=_norms,
    ),
    Statement(
        ids=("C.14", "4.14"),
        title="The constants can be absorbed",
        claim="The norms of W_V and of the attention matrix go into one constant that W_Q and W_K make.",
        hypotheses="as C.10",
        status="false as stated",
        fault="W_V does not depend on W_Q and W_K: with small keys attention is even, and the values pass "
        "unhindered.",
        gist="C.10 with |W_V| written out",
        truth="C.10 in its corrected form, with |W_V| written out.",
        conditions="as C.10",
        why="As W_K tends to 0, S tends to 1/L everywhere and A - A* to the mean of dz_j W_V.",
        sharp="See C.10.",
        meaning="No bound from queries and keys alone can exist.",
        counterexample=attention.absorbed_constant,
        check=lambda: (attention.row_error(*_pair(21)),),
    ),
)
