"""Laws of the bilateral filters, among them the bounds that hold in the place of the papers' "non-expansive"."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from closeness import assert_close
from evenreel.errors import SettingsError
from evenreel.ops.bilateral import filter_1d, filter_2d, mirrored

kernels = st.sampled_from([1, 3, 5, 7])
sigmas = st.floats(0.1, 20.0)
edges = st.sampled_from(["reflect", "valid"])


@st.composite
def pictures(draw):
    """A clean picture, and one near it or far from it, in float64."""
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    clean = torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
    size = draw(st.sampled_from([1e-3, 0.1, 1.0, 10.0]))
    return draw(st.sampled_from([0.1, 1.0, 5.0])) * clean, size * noise


def neighbourhood(size, kernel, edge):
    """For each position of an axis, those that its window holds, with their distances."""
    half = kernel // 2
    if edge == "valid":
        return [
            [(place + step, step) for step in range(-half, half + 1) if 0 <= place + step < size]
            for place in range(size)
        ]
    beyond = mirrored(half, size, torch.device("cpu")).tolist()
    return [[(beyond[half + place + step], step) for step in range(-half, half + 1)] for place in range(size)]


def weights_of(picture, kernel, sigma_spatial, sigma_intensity, edge):
    """The filter as a matrix before normalisation, by plain loops."""
    height, width = picture.shape[-2:]
    values = picture.view(height, width)
    rows, columns = neighbourhood(height, kernel, edge), neighbourhood(width, kernel, edge)
    weights = torch.zeros(height * width, height * width, dtype=picture.dtype)
    for y in range(height):
        for x in range(width):
            for row, down in rows[y]:
                for column, right in columns[x]:
                    spatial = math.exp(-(down**2 + right**2) / (2 * sigma_spatial**2))
                    alike = math.exp(
                        -(float(values[row, column] - values[y, x]) ** 2) / (2 * sigma_intensity**2)
                    )
                    weights[y * width + x, row * width + column] += spatial * alike
    return weights


def off_centre(kernel, sigma_spatial):
    """S: the largest sum of spatial weights around a pixel, itself left out."""
    half = kernel // 2
    line = sum(math.exp(-(step**2) / (2 * sigma_spatial**2)) for step in range(-half, half + 1))
    return line**2 - 1


def lambert(x):
    """W0: the w >= 0 with w exp(w) = x, for x >= 0."""
    w = math.log1p(x)
    for _ in range(50):
        w -= (w * math.exp(w) - x) / (math.exp(w) * (1 + w))
    return w


@given(pictures(), kernels, sigmas, sigmas, edges)
@settings(max_examples=60)
def test_the_filter_is_the_matrix_that_it_stands_for(pair, kernel, sigma_spatial, sigma_intensity, edge):
    picture = pair[0]
    weights = weights_of(picture, kernel, sigma_spatial, sigma_intensity, edge)
    expected = (weights @ picture.flatten()) / weights.sum(1)
    ours = filter_2d(
        picture, kernel=kernel, sigma_spatial=sigma_spatial, sigma_intensity=sigma_intensity, edge=edge
    )
    assert_close(ours.flatten(), expected)


@given(pictures(), kernels, sigmas, sigmas, edges)
@settings(max_examples=100)
def test_bound_in_the_max_norm(pair, kernel, sigma_spatial, sigma_intensity, edge):
    """norm(B(x) - clean) <= norm(x - clean) + how much the clean picture varies inside a window."""
    clean, noise = pair
    rows, columns = (neighbourhood(size, kernel, edge) for size in clean.shape[-2:])
    grid = clean[0, 0]
    varies = max(
        float((grid[row, column] - grid[y, x]).abs())
        for y in range(len(rows))
        for x in range(len(columns))
        for row, _ in rows[y]
        for column, _ in columns[x]
    )
    filtered = filter_2d(
        clean + noise, kernel=kernel, sigma_spatial=sigma_spatial, sigma_intensity=sigma_intensity, edge=edge
    )
    assert (filtered - clean).abs().max() <= noise.abs().max() + varies + 1e-12


@given(pictures(), kernels, sigmas, sigmas)
@settings(max_examples=100)
def test_bound_in_the_2_norm(pair, kernel, sigma_spatial, sigma_intensity):
    """norm(B(x) - clean) <= sqrt(max k / min k) norm(x - clean) + norm((W(x) - I) clean), and the root is at most
    sqrt(1 + S). It needs symmetric weights, so nothing mirrored."""
    clean, noise = pair
    noisy = clean + noise
    weights = weights_of(noisy, kernel, sigma_spatial, sigma_intensity, "valid")
    sums = weights.sum(1)
    root = float((sums.max() / sums.min()).sqrt())
    assert root <= math.sqrt(1 + off_centre(kernel, sigma_spatial)) + 1e-12
    moved = (weights / sums[:, None]) @ clean.flatten() - clean.flatten()
    filtered = filter_2d(
        noisy, kernel=kernel, sigma_spatial=sigma_spatial, sigma_intensity=sigma_intensity, edge="valid"
    )
    assert (filtered - clean).norm() <= root * noise.norm() + moved.norm() + 1e-12


@given(pictures(), kernels, sigmas, sigmas, edges)
@settings(max_examples=150)
def test_lipschitz_constant_in_the_max_norm(pair, kernel, sigma_spatial, sigma_intensity, edge):
    """At most 1 + 4 W0(S / e), whatever sigma_intensity is."""
    one, change = pair
    assume(change.abs().max() > 0)
    options = {"kernel": kernel, "sigma_spatial": sigma_spatial, "sigma_intensity": sigma_intensity}
    moved = filter_2d(one + change, **options, edge=edge) - filter_2d(one, **options, edge=edge)
    bound = 1 + 4 * lambert(off_centre(kernel, sigma_spatial) / math.e)
    assert moved.abs().max() <= bound * change.abs().max() * (1 + 1e-9)


def test_the_filter_is_expansive():
    """The papers' claim fails for two pixels: they move apart by 1.597 times what they were moved."""
    one, other = torch.tensor([-1.0, 1.0]).double(), torch.tensor([-1.05, 1.05]).double()
    options = {"kernel": 3, "sigma_spatial": 1e6, "sigma_intensity": 1.0, "edge": "valid"}
    moved = filter_2d(other.view(1, 1, 1, 2), **options) - filter_2d(one.view(1, 1, 1, 2), **options)
    ratio = float(moved.norm() / (other - one).norm())
    assert ratio == pytest.approx(1.597, abs=1e-3)
    assert ratio <= 1 + 4 * lambert(1 / math.e)


@given(st.integers(1, 9), st.sampled_from([1, 3, 5, 9]), st.integers(0, 2), sigmas, sigmas)
@settings(max_examples=60)
def test_any_number_of_frames_along_any_axis(length, kernel, dim, sigma_spatial, sigma_intensity):
    shape = [2, 3, 4]
    shape[dim] = length
    signal = torch.randn(shape, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    filtered = filter_1d(
        signal, kernel=kernel, dim=dim, sigma_spatial=sigma_spatial, sigma_intensity=sigma_intensity
    )
    around = neighbourhood(length, kernel, "reflect")
    lines = signal.movedim(dim, -1).reshape(-1, length).tolist()
    for line, ours in zip(lines, filtered.movedim(dim, -1).reshape(-1, length), strict=True):
        for place, value in enumerate(line):
            weights = {
                step: math.exp(
                    -(step**2) / (2 * sigma_spatial**2)
                    - (line[other] - value) ** 2 / (2 * sigma_intensity**2)
                )
                for other, step in around[place]
            }
            mean = sum(weights[step] * line[other] for other, step in around[place]) / sum(weights.values())
            assert float(ours[place]) == pytest.approx(mean, abs=1e-12)


def test_two_frames_see_each_other_twice():
    """Mirrored, frames 0 and 1 go on as 0 1 0 1 0: with kernel 3 each sees the other on both sides."""
    signal = torch.tensor([0.0, 1.0], dtype=torch.float64)
    weight = 2 * math.exp(-0.5) * math.exp(-0.5)
    expected = weight / (1 + weight)
    assert filter_1d(signal, kernel=3).tolist() == pytest.approx([expected, 1 - expected])


def test_what_does_not_vary_is_not_changed():
    still = torch.full((2, 3, 5, 4), 0.1)
    assert torch.equal(filter_2d(still, kernel=7), still)
    assert torch.equal(filter_1d(still, kernel=5, dim=0), still)


def test_kernel_1_changes_nothing():
    latents = torch.randn(2, 4, 5, 6)
    assert torch.equal(filter_2d(latents, kernel=1), latents)
    assert torch.equal(filter_1d(latents, kernel=1, dim=0), latents)


def test_half_precision_is_computed_in_single():
    latents = torch.randn(1, 2, 6, 6).half()
    filtered = filter_2d(latents)
    assert filtered.dtype is torch.float16
    assert torch.equal(filtered, filter_2d(latents.float()).half())


@pytest.mark.parametrize("edge", ["reflect", "valid"])
def test_gradients(edge):
    latents = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: filter_2d(x, edge=edge, kernel=3), latents)
    assert torch.autograd.gradcheck(lambda x: filter_1d(x, dim=2, kernel=5), latents)


def test_extreme_values_stay_finite():
    latents = torch.tensor([[[[0.0, 1e30], [-1e30, 0.0]]]])
    for sigma in (1e-6, 1e6):
        assert torch.isfinite(filter_2d(latents, sigma_intensity=sigma)).all()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("kernel", 4), ("kernel", 0), ("kernel", -3), ("sigma_spatial", 0.0), ("sigma_intensity", float("nan"))],
)
def test_impossible_filters_are_refused(setting, value):
    for filtered in (filter_1d, filter_2d):
        with pytest.raises(SettingsError, match=f"bilateral {setting} must be .*{value}"):
            filtered(torch.zeros(1, 1, 2, 2), **{setting: value})
    with pytest.raises(SettingsError, match="edge must be reflect or valid, got 'wrap'"):
        filter_2d(torch.zeros(1, 1, 2, 2), edge="wrap")
