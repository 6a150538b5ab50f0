"""Searches for violations of C.7, and the reference filter against others."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closeness import assert_close
from evenreel.ops.bilateral import filter_2d
from evenreel.theory import filter as bilateral
from evenreel.theory.filter import Bilateral
from evenreel.theory.measured import draw
from theory.searching import climbed, kept, tensors

SHAPE = (4, 5)


@st.composite
def filters(draw, height: int = 4, width: int = 5):
    """Filters that leave some of the picture outside a window, and some whose window holds it all."""
    return Bilateral(
        height=height,
        width=width,
        kernel=draw(st.sampled_from([1, 3, 5, 7])),
        sigma_spatial=draw(st.sampled_from([0.5, 1.0, 3.0, 100.0])),
        sigma_intensity=draw(st.sampled_from([0.1, 0.5, 1.0, 10.0])),
        edge=draw(st.sampled_from(["valid", "reflect"])),
    )


@pytest.mark.parametrize("edge", ["valid", "reflect"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_reference_agrees_with_the_filter_in_use(edge, kernel):
    picture = draw(7, 6, seed=0)
    filtering = Bilateral.of(picture, kernel=kernel, sigma_spatial=1.3, sigma_intensity=0.7, edge=edge)
    used = filter_2d(picture[None, None], kernel=kernel, sigma_spatial=1.3, sigma_intensity=0.7, edge=edge)
    assert_close(filtering(picture), used[0, 0])


@given(filters(), tensors(*SHAPE))
def test_the_matrix(filtering, x):
    matrix = filtering.matrix(x)
    assert (matrix >= 0).all()
    assert_close(matrix.sum(1), torch.ones(20, dtype=torch.float64))


@settings(max_examples=30)
@given(filters(), tensors(*SHAPE))
def test_the_jacobian_is_the_derivative(filtering, x):
    found = torch.autograd.functional.jacobian(
        lambda flat: filtering(flat.view(SHAPE)).flatten(), x.flatten()
    )
    assert_close(filtering.jacobian(x), found)


@given(filters(), tensors(*SHAPE), tensors(*SHAPE))
def test_errors_against_a_reference(filtering, x, reference):
    kept(
        bilateral.error_in_max_norm(filtering, x, reference),
        bilateral.error_in_two_norm(filtering, x, reference),
        *bilateral.norms_of_matrix(filtering, x),
    )


@given(filters(), tensors(*SHAPE))
def test_no_small_difference_is_stretched_more(filtering, x):
    kept(bilateral.expansion(filtering, x))


@given(filters(), tensors(*SHAPE), tensors(*SHAPE))
def test_no_two_pictures_are_pushed_farther_apart(filtering, x, y):
    constant = bilateral.lipschitz_constant(filtering.crowding())
    moved = (filtering(x) - filtering(y)).abs().max()
    assert moved <= constant * (x - y).abs().max() * (1 + 1e-9) + 1e-12


@given(filters(), tensors(*SHAPE), tensors(*SHAPE))
def test_calm_pictures_are_not_pushed_apart(filtering, x, y):
    calm = [one / max(1.0, ((one.max() - one.min()) / filtering.sigma_intensity).item()) for one in (x, y)]
    moved = (filtering(calm[0]) - filtering(calm[1])).abs().max()
    assert moved <= (calm[0] - calm[1]).abs().max() * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("kernel", "sigma"), [(3, 1.0), (5, 1.0), (5, 0.4), (7, 2.0)])
def test_the_constant_is_reached(kernel, sigma):
    filtering = Bilateral(
        height=kernel, width=kernel, kernel=kernel, sigma_spatial=sigma, sigma_intensity=0.3
    )
    found = bilateral.expansion(filtering, bilateral.farthest_neighbours(filtering))
    assert found.share == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("edge", ["valid", "reflect"])
def test_a_search_stays_below_the_constants(edge):
    filtering = Bilateral(height=4, width=4, kernel=3, edge=edge)

    def stretch(x):
        return bilateral.expansion(filtering, x).share

    def share_of_error(pair):
        return bilateral.error_in_two_norm(filtering, *pair).share

    assert 0.7 < climbed(stretch, draw(4, 4, seed=1), steps=400) <= 1 + 1e-9
    assert 0.5 < climbed(share_of_error, draw(2, 4, 4, seed=2), steps=400) <= 1 + 1e-9


def test_the_default_constants():
    crowding = Bilateral(height=9, width=9).crowding()
    assert crowding == pytest.approx(5.169, abs=1e-3)
    assert bilateral.lipschitz_constant(crowding) == pytest.approx(3.481, abs=1e-3)
    assert 1 + 4 * bilateral.lambert_w(crowding / math.e) == pytest.approx(4.318, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.1, math.e, 1e6])
def test_lambert_w(value):
    w = bilateral.lambert_w(value)
    assert w * math.exp(w) == pytest.approx(value, rel=1e-12, abs=1e-300)


def test_mirrored_edges_break_the_bound_by_the_rows():
    """The earlier kappa, max k / min k, is 1 on a constant picture, whose filter stretches nevertheless."""
    flat = torch.zeros(3, 3, dtype=torch.float64)
    filtering = Bilateral.of(flat, kernel=3, edge="reflect")
    weights = filtering.kernel_matrix(flat).sum(1)
    assert (weights.max() / weights.min()).item() == pytest.approx(1)
    assert torch.linalg.matrix_norm(filtering.matrix(flat), 2) > 1.1


@given(filters(), tensors(*SHAPE))
def test_columns_are_never_worse_than_rows_without_a_mirror(filtering, x):
    plain = Bilateral.of(x, kernel=filtering.kernel, sigma_intensity=filtering.sigma_intensity)
    weights = plain.kernel_matrix(x).sum(1)
    assert bilateral.column_sum(plain.matrix(x)) <= (weights.max() / weights.min()).item() * (1 + 1e-9)
