"""Searches for violations of C.10 to C.14."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from closeness import assert_close
from evenreel.theory import attention
from evenreel.theory.attention import Head
from evenreel.theory.measured import draw
from theory.searching import climbed, kept, tensors


@st.composite
def cases(draw):
    """A head, queries and tokens, and what they should be; sometimes the queries or the tokens are right already."""
    queries, tokens, inner, outer, size = (draw(st.integers(1, 5)) for _ in range(5))
    head = Head(*(draw(tensors(*shape)) for shape in ((inner, size), (outer, size), (outer, 3))))
    x_star, z_star = draw(tensors(queries, inner)), draw(tensors(tokens, outer))
    x = x_star if draw(st.booleans()) else x_star + draw(tensors(queries, inner))
    z = z_star if draw(st.booleans()) else z_star + draw(tensors(tokens, outer))
    return head, x, z, x_star, z_star


def test_a_head_is_attention():
    head, x, z = (
        Head(draw(6, 4, seed=0), draw(5, 4, seed=1), draw(5, 4, seed=2)),
        draw(3, 6, seed=3),
        draw(7, 5, seed=4),
    )
    found = scaled_dot_product_attention(x @ head.to_q, z @ head.to_k, z @ head.to_v)
    assert_close(head(x, z), found)


@given(cases())
def test_errors(case):
    kept(attention.output_error(*case), attention.row_error(*case))


@given(cases())
def test_the_error_splits_in_two(case):
    kept(attention.decomposition(*case))


@given(
    st.integers(1, 6).flatmap(
        lambda tokens: st.tuples(tensors(3, tokens, largest=30), tensors(3, tokens, largest=30))
    )
)
def test_softmax(pair):
    kept(attention.softmax_change(*pair), *attention.softmax_norm(pair[0]))


@given(tensors(1, 4, largest=30), tensors(1, 4, largest=30))
def test_the_sum_of_a_softmaxs_changes(one, other):
    """What the bound by rows stands on: |softmax(a) - softmax(b)|_1 <= range(a - b) / 2."""
    change = (one.softmax(-1) - other.softmax(-1)).abs().sum()
    spread = (one - other).max() - (one - other).min()
    assert change <= spread / 2 + 1e-12


def test_a_search_comes_near_to_one_half():
    def share(pair):
        return attention.softmax_change(pair[:1], pair[1:]).share or 0.0

    assert 0.95 < climbed(share, draw(2, 2, seed=0), steps=600) <= 1


@pytest.mark.parametrize("error", [attention.output_error, attention.row_error])
def test_a_search_stays_below_both_errors(error):
    def share(numbers):
        q, k, v, x, x_star, z, z_star = numbers.view(7, 2, 1)
        return error(Head(q[:1], k[:1], v[:1]), x, z, x_star, z_star).share or 0.0

    found = max(climbed(share, draw(14, seed=seed), steps=300) for seed in range(3))
    assert 0.6 < found <= 1 + 1e-9


def test_both_errors_are_nearly_reached():
    one, pair = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    case = (Head(one, one, one), 1e-3 * one, pair, 0 * one, pair)
    assert attention.output_error(*case).share == pytest.approx(1, abs=1e-5)
    assert attention.row_error(*case).share == pytest.approx(1, abs=1e-5)
