"""Searches for violations of C.15."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from evenreel.theory import tokens
from evenreel.theory.measured import draw
from theory.searching import kept, tensors


@given(
    st.integers(1, 6).flatmap(lambda n: st.tuples(tensors(n, 3), tensors(n, 2))),
    tensors(3, 2),
    tensors(2, 2),
    tensors(2, 2),
)
def test_no_map_does_better(pair, mapping, text, text_wanted):
    vision, wanted = pair
    assume(vision.norm() > 1e-3)
    # Where singular values are nearly 0, the least error is nearly anything.
    values = torch.linalg.svdvals(vision)
    assume(bool(((values > 1e-4 * values[0]) | (values < 1e-15 * values[0])).all()))
    kept(tokens.alignment(vision, wanted, text, text_wanted, mapping))
    best = tokens.alignment(vision, wanted, text, text_wanted)
    assert best.value == pytest.approx(best.bound, rel=1e-6, abs=1e-9)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_everything_is_in_reach_exactly_if_the_rank_is_full(count, width, seed):
    vision, wanted = draw(count, width, seed=seed), draw(count, 3, seed=seed + 1)
    assert tokens.rank(vision) == min(count, width)
    within = tokens.left_over(vision, wanted) < 1e-9 * wanted.norm().item()
    assert within == (count <= width)


def test_equal_tokens_cannot_become_different_ones():
    """Two rows, width enough, but rank 1: the hypothesis that matters is the rank."""
    vision = torch.ones(2, 4, dtype=torch.float64)
    wanted = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert tokens.left_over(vision, wanted) == pytest.approx(wanted.norm().item())


def test_the_share_in_reach():
    vision = draw(12, 5, seed=0)
    wanted = draw(12, 4000, seed=1)
    missed = (tokens.left_over(vision, wanted) / wanted.norm().item()) ** 2
    assert missed == pytest.approx(1 - tokens.reached_share(vision), abs=0.01)


def test_frames_share_one_map():
    """Each frame's tokens fit, those of two frames together do not."""
    frames = draw(2, 3, 4, seed=0)
    wanted = draw(2, 3, 4, seed=1)
    assert all(tokens.left_over(one, aim) < 1e-9 for one, aim in zip(frames, wanted, strict=True))
    assert tokens.left_over(frames.flatten(0, 1), wanted.flatten(0, 1)) > 0.1
