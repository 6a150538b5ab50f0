"""Searches for violations of C.1 to C.5, and for how near to its bound each quantity comes."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evenreel.theory import similarity
from evenreel.theory.measured import draw
from theory.searching import climbed, kept, tensors


@st.composite
def clips(draw, frames: int | None = None):
    """3 to 7 frames of 2 to 4 numbers, none near zero."""
    frames = frames or draw(st.integers(3, 7))
    features = draw(tensors(frames, draw(st.integers(2, 4))))
    assume(similarity.smallest_norm(features) > 1e-4)
    return features


def dense_curvature(features) -> float:
    leaf = features.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(similarity.temporal_loss(leaf), leaf, create_graph=True)
    basis = torch.eye(leaf.numel(), dtype=leaf.dtype).view(-1, *leaf.shape)
    (hessian,) = torch.autograd.grad(gradient, leaf, basis, is_grads_batched=True)
    return torch.linalg.matrix_norm(hessian.flatten(1), 2).item()


def test_the_loss_by_hand():
    s = similarity.cosines(draw(5, 3, seed=0))
    by_hand = sum((s[t] - s[t - 1]) ** 2 for t in range(1, 4)) / 4
    assert similarity.temporal_loss(draw(5, 3, seed=0)).item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_two_frames_have_no_loss():
    assert similarity.temporal_loss(draw(2, 3, seed=0)).item() == 0


@given(tensors(2, 3))
def test_gradient_of_the_cosine(pair):
    one, other = pair
    assume(one.norm() > 1e-4)
    assume(other.norm() > 1e-4)
    found = similarity.gradient_of_cosine(one, other)
    kept(found)
    sine = torch.linalg.cross(one, other).norm() / (one.norm() * other.norm())
    assert found.value == pytest.approx((sine / one.norm()).item(), rel=1e-6, abs=1e-6 * found.bound)


@given(clips())
def test_bounds_of_gradient_and_curvature(features):
    lipschitz = similarity.lipschitz_bound(features)
    kept(similarity.largest_gradient(features), similarity.taylor_remainder(features))
    assert dense_curvature(features) <= lipschitz * (1 + 1e-9)


@given(clips(frames=4), tensors(4, 4), st.floats(0, 1))
def test_the_gradient_moves_no_faster_than_the_bound_along_straight_ways(features, step, share):
    step = step[:, : features.shape[1]]
    # Out of the ball: the way from features to features + step never comes nearer to zero than its start.
    outward = (step * features).sum(1, keepdim=True).clamp(max=0) / features.square().sum(1, keepdim=True)
    moved = features + share * (step - outward * features)
    assume((moved - features).norm() > 1e-6)
    kept(similarity.change_of_gradient(features, moved))


@given(clips(frames=4), tensors(4, 4))
def test_any_two_clips_are_within_half_pi_of_it(one, other):
    other = other[:, : one.shape[1]]
    assume(similarity.smallest_norm(other) > 1e-4)
    assume((one - other).norm() > 1e-6)
    found = similarity.change_of_gradient(one, other)
    assert found.value <= found.bound * math.pi / 2 * (1 + 1e-9)


@settings(max_examples=30)
@given(clips(), st.floats(0.02, 0.98))
def test_descent(features, share):
    kept(*similarity.descends(features, step_share=share, steps=15))


@given(clips(), tensors(6), tensors(6))
def test_quadratic_form_and_convexity(features, one, other):
    kept(similarity.quadratic_form(features), similarity.convex_in_similarities(one, other))


def test_no_frame_is_steeper_and_one_is_as_steep():
    assert similarity.largest_gradient(similarity.steepest_clip()).share == pytest.approx(1, abs=1e-12)
    starts = [draw(5, 2, seed=seed) for seed in range(4)]
    found = max(climbed(lambda f: similarity.largest_gradient(f).share, start, steps=200) for start in starts)
    assert 0.95 < found <= 1 + 1e-9


@pytest.mark.parametrize(("frames", "constant"), [(3, 12.0), (4, 20.944), (5, 25.798), (8, 30.118)])
def test_the_most_curved_clips(frames, constant):
    """The largest eigenvalue of the Laplacian of a path with weights 2, 4, .., 4, 2, twice."""
    features = similarity.most_curved_clip(frames)
    assert (frames - 1) * dense_curvature(features) == pytest.approx(constant, rel=1e-4)
    # Nothing that a search finds is more curved.
    found = climbed(
        lambda f: dense_curvature(f / f.norm(dim=1, keepdim=True)),
        features + draw(frames, 2, seed=2),
        steps=60,
    )
    assert (frames - 1) * found <= constant * (1 + 1e-4)


def test_the_curvature_tends_to_the_bound():
    shares = [similarity.curvature(similarity.most_curved_clip(n), iterations=200).share for n in (8, 16, 32)]
    assert shares == sorted(shares)
    assert 0.99 < shares[-1] <= 1


def test_power_iteration_finds_the_curvature():
    features = draw(5, 4, seed=3)
    assert similarity.curvature(features, iterations=200).value == pytest.approx(
        dense_curvature(features), rel=1e-3
    )


def test_descent_with_nearly_the_largest_step_from_nearly_the_most_curved_clip():
    features = similarity.most_curved_clip(16) + 1e-3 * draw(16, 2, seed=4)
    assert all(one.holds for one in similarity.descends(features, step_share=0.99, steps=30))


@given(st.floats(-180, 180), st.integers(3, 9))
def test_even_motion_has_no_loss(degrees, frames):
    kept(similarity.even_motion(degrees, frames))
