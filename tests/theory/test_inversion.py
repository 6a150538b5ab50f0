"""Searches for violations of C.6, C.8 and C.9."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closeness import assert_close
from evenreel.diffusion import ddim
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.theory import inversion
from evenreel.theory.filter import Bilateral
from evenreel.theory.measured import Measured, draw
from theory.searching import climbed, kept, tensors

LEVELS = st.lists(st.floats(0.01, 0.9), min_size=1, max_size=6, unique=True).map(
    lambda found: [1.0, *sorted(found, reverse=True)]
)


def predictor(matrix, lipschitz):
    """A smooth map whose Lipschitz constant is `lipschitz` at most."""
    matrix = matrix * (lipschitz / max(torch.linalg.matrix_norm(matrix, 2).item(), 1e-9))
    return lambda x: (matrix @ x.flatten()).sin().view(x.shape)


def run(step, x, eps, levels):
    for pair in levels:
        x = step(x, eps, *pair)
    return x


def test_the_levels_are_those_of_stable_diffusion():
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    schedule = NoiseSchedule.from_config(config)
    assert inversion.stable_diffusion_levels() == pytest.approx([1.0, *schedule.alphas_cumprod], rel=1e-4)


@given(tensors(3, 4), tensors(3, 4), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_step_in_use_is_ddim(x, noise, level, target):
    x, noise = x.view(1, 1, 3, 4), noise.view(1, 1, 3, 4)
    found = inversion.ddim_step(x, lambda _: noise, level, target)
    assert_close(found, ddim.step(x, noise, level, target))


@given(tensors(4), tensors(4), tensors(4, 4), st.floats(0, 3), LEVELS)
def test_errors_of_whole_runs(x, y, matrix, lipschitz, levels):
    eps, apart, found = predictor(matrix, lipschitz), (x - y).norm().item(), []
    for step, pairs, product in (
        (inversion.ddim_step, list(pairwise(levels)), inversion.ddim_product(levels, lipschitz)),
        (inversion.printed_step, list(pairwise(levels))[::-1], inversion.printed_product(levels, lipschitz)),
    ):
        after = (run(step, x, eps, pairs) - run(step, y, eps, pairs)).norm().item()
        found.append(Measured(what="error", value=after, bound=product * apart))
    kept(*found)


@given(st.floats(0, 3), LEVELS)
def test_the_printed_product_is_reached_and_below_its_closed_form(lipschitz, levels):
    found = inversion.growth(levels, lipschitz)
    assert found.share == pytest.approx(1, rel=1e-9)
    closed = inversion.printed_limit(levels[-1], lipschitz)
    kept(Measured(what="product", value=found.bound, bound=closed))


@given(st.floats(0, 3), LEVELS)
def test_no_constant_is_below_1(lipschitz, levels):
    assert all(inversion.printed_constant(*pair, lipschitz) > 1 for pair in pairwise(levels))


@pytest.mark.parametrize(
    ("lipschitz", "product", "limit"),
    [(0.0, 14.65, 14.65), (0.5, 412, 428.7), (1.0, 11_450, 12_545), (2.0, 8.5e6, 1.0742e7)],
)
def test_products_on_stable_diffusions_schedule(lipschitz, product, limit):
    levels = inversion.stable_diffusion_levels()
    assert inversion.printed_product(levels, lipschitz) == pytest.approx(product, rel=2e-3)
    assert inversion.printed_limit(levels[-1], lipschitz) == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("lipschitz", [0.0, 0.5, 2.0])
def test_products_tend_to_their_closed_forms(lipschitz):
    gaps = []
    for count in (100, 200, 400):
        ways = torch.linspace(math.asinh(0.05), math.asinh(10), count + 1, dtype=torch.float64)
        levels = (1 / (1 + ways.sinh() ** 2)).tolist()
        limit = inversion.ddim_limit(levels[0], levels[-1], lipschitz)
        gaps.append(abs(inversion.ddim_product(levels, lipschitz) / limit - 1))
    assert gaps[2] < 0.03
    if lipschitz:
        assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)


@settings(max_examples=50)
@given(tensors(4, 4), tensors(4, 4), tensors(16, 16), st.floats(0, 3), st.sampled_from(["valid", "reflect"]))
def test_a_filtered_step(x, reference, matrix, lipschitz, edge):
    filtering, eps = Bilateral(height=4, width=4, kernel=3, edge=edge), predictor(matrix, lipschitz)
    kept(inversion.filtered_error(filtering, x, reference, eps, 0.8, 0.6, lipschitz))


def test_a_search_stays_below_the_bound_of_a_filtered_step():
    filtering, eps = Bilateral(height=3, width=3, kernel=3), predictor(draw(9, 9, seed=0), 1.5)

    def share(pair):
        return inversion.filtered_error(filtering, *pair, eps, 0.8, 0.6, 1.5).share

    assert 0.5 < climbed(share, draw(2, 3, 3, seed=1), steps=400) <= 1 + 1e-9


@given(st.integers(1, 10_000))
def test_the_expected_norm_of_noise_is_below_the_root(size):
    assert math.sqrt(size - 0.5) < inversion.expected_norm(size) < math.sqrt(size)


def test_the_expected_norm_of_noise():
    drawn = draw(20_000, 3, seed=0).norm(dim=1).mean().item()
    assert inversion.expected_norm(3) == pytest.approx(drawn, rel=0.01)


def test_jacobian_norm():
    matrix, x = draw(6, 6, seed=0), draw(6, seed=1)
    true = torch.linalg.matrix_norm(matrix, 2).item()
    assert inversion.jacobian_norm(lambda v: matrix @ v, x, iterations=40) == pytest.approx(true, rel=1e-6)
    found = inversion.jacobian_norm(lambda v: (matrix @ v).sin(), x, iterations=40, reach=1e-4)
    slopes = (matrix @ x).cos()[:, None] * matrix
    assert found == pytest.approx(torch.linalg.matrix_norm(slopes, 2).item(), rel=1e-4)


@given(tensors(4, 4), st.integers(1, 4))
def test_power_iteration_never_exceeds_the_norm(matrix, iterations):
    found = inversion.jacobian_norm(lambda v: matrix @ v, draw(4, seed=1), iterations=iterations)
    assert found <= torch.linalg.matrix_norm(matrix, 2).item() * (1 + 1e-6) + 1e-9
