"""PSNR and SSIM against implementations that go pixel by pixel."""

import math

import pytest
import torch

from evenreel.metrics.fidelity import (
    BackgroundPsnr,
    BackgroundSsim,
    SourcePsnr,
    SourceSsim,
    TruthPsnr,
    TruthSsim,
    psnr,
    ssim_map,
)
from metrics.measuring import figure, value


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(5, 3, 15, 18, generator=generator)
    edit = (source + 0.2 * torch.randn(source.shape, generator=generator)).clamp(0, 1)
    edit[:, 0] = edit[:, 0] ** 2  # channels differ, so that swapping them would show
    background = torch.rand(5, 1, 15, 18, generator=generator) < 0.4
    return source, edit, background


def slow_mean_squared(one, other, counts):
    total, pixels = 0.0, 0
    for frame in range(len(one)):
        for y in range(len(one[0][0])):
            for x in range(len(one[0][0][0])):
                if counts[frame][0][y][x]:
                    for channel in range(3):
                        total += (one[frame][channel][y][x] - other[frame][channel][y][x]) ** 2
                        pixels += 1
    return total / pixels


def slow_ssim_at(one, other, y, x):
    """SSIM of two pictures (height x width lists) around one pixel, straight from the paper's equations."""
    weights = {
        (dy, dx): math.exp(-(dy * dy + dx * dx) / (2 * 1.5**2)) for dy in range(-5, 6) for dx in range(-5, 6)
    }
    whole = sum(weights.values())
    weights = {place: weight / whole for place, weight in weights.items()}
    a = {(dy, dx): one[y + dy][x + dx] for dy, dx in weights}
    b = {(dy, dx): other[y + dy][x + dx] for dy, dx in weights}
    mean_a = sum(weights[p] * a[p] for p in weights)
    mean_b = sum(weights[p] * b[p] for p in weights)
    var_a = sum(weights[p] * (a[p] - mean_a) ** 2 for p in weights)
    var_b = sum(weights[p] * (b[p] - mean_b) ** 2 for p in weights)
    cov = sum(weights[p] * (a[p] - mean_a) * (b[p] - mean_b) for p in weights)
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def slow_ssim(one, other, counts):
    values = []
    for frame in range(len(one)):
        for channel in range(3):
            a, b = one[frame, channel].double().tolist(), other[frame, channel].double().tolist()
            places = [(y, x) for y in range(5, len(a) - 5) for x in range(5, len(a[0]) - 5)]
            values += [slow_ssim_at(a, b, y, x) for y, x in places if counts[frame, 0, y, x]]
    return sum(values) / len(values)


EVERYWHERE = torch.ones(5, 1, 15, 18, dtype=torch.bool)


@pytest.mark.parametrize("length", [1, 2, 3, 16])
def test_psnr_is_that_of_a_loop(clips, length):
    source, edit, background = clips
    lists = source.double().tolist(), edit.double().tolist()
    whole = -10 * math.log10(slow_mean_squared(*lists, EVERYWHERE.tolist()))
    assert value(SourcePsnr, source, edit, length=length) == pytest.approx(whole, abs=1e-5)
    assert value(TruthPsnr, edit, edit, truth=source, length=length) == pytest.approx(whole, abs=1e-5)
    assert psnr(source, edit) == pytest.approx(whole, abs=1e-4)
    masked = -10 * math.log10(slow_mean_squared(*lists, background.tolist()))
    found = value(BackgroundPsnr, source, edit, background=background, length=length)
    assert found == pytest.approx(masked, abs=1e-5)


@pytest.mark.parametrize("length", [1, 2, 16])
def test_ssim_is_that_of_a_loop(clips, length):
    source, edit, background = clips
    whole = slow_ssim(source, edit, EVERYWHERE)
    assert 0.2 < whole < 0.95
    assert value(SourceSsim, source, edit, length=length) == pytest.approx(whole, abs=1e-9)
    assert value(TruthSsim, edit, edit, truth=source, length=length) == pytest.approx(whole, abs=1e-9)
    masked = slow_ssim(source, edit, background)
    assert abs(masked - whole) > 1e-4
    found = value(BackgroundSsim, source, edit, background=background, length=length)
    assert found == pytest.approx(masked, abs=1e-9)


def test_background_is_averaged_over_background_only():
    """Zeroing the masked part and dividing by all pixels, as published evaluators do, gives 10 log10(4) more."""
    source = torch.zeros(2, 3, 16, 16)
    edit = torch.full_like(source, 0.1)
    background = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    background[..., :8, :8] = True
    assert value(BackgroundPsnr, source, edit, background=background) == pytest.approx(20, abs=1e-4)
    inflated = -10 * math.log10(((source - edit).square() * background).mean().item())
    assert inflated == pytest.approx(20 + 10 * math.log10(4), abs=1e-4)


def test_the_background_alone_decides():
    source = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    background = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    background[..., :12] = True
    edit = torch.where(background, (source + 0.1).clamp(0, 1), 0.0)
    other = torch.where(background, edit, 1.0)
    assert value(BackgroundPsnr, source, edit, background=background) == value(
        BackgroundPsnr, source, other, background=background
    )


def test_ssim_of_constants_follows_from_their_means():
    black, grey = torch.zeros(1, 3, 12, 12), torch.full((1, 3, 12, 12), 0.5)
    expected = 0.01**2 / (0.25 + 0.01**2)
    assert ssim_map(black, grey).mean().item() == pytest.approx(expected)
    assert value(SourceSsim, black, black) == 1.0


def test_identical_clips_have_no_psnr_and_an_ssim_of_one(clips):
    source, *_ = clips
    assert "identical" in figure(SourcePsnr, source, source.clone()).unavailable
    assert value(SourceSsim, source, source.clone()) == pytest.approx(1, abs=1e-12)


def test_a_mask_over_everything_leaves_nothing(clips):
    source, edit, _ = clips
    for kind in BackgroundPsnr, BackgroundSsim:
        found = figure(kind, source, edit, background=~EVERYWHERE)
        assert found.value is None
        assert found.unavailable.startswith("the mask leaves no background")


def test_background_in_a_corner_is_too_near_the_edge_for_ssim(clips):
    source, edit, _ = clips
    background = ~EVERYWHERE
    background[..., :5, :] = True
    assert value(BackgroundPsnr, source, edit, background=background) > 0
    assert "5 pixels from the edge" in figure(BackgroundSsim, source, edit, background=background).unavailable


def test_frames_smaller_than_the_window():
    small = torch.rand(2, 3, 10, 40)
    assert "40 x 10 pixels are smaller" in figure(SourceSsim, small, small).unavailable
    assert value(SourceSsim, torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)) == 1


def test_swapped_channels_are_seen(clips):
    """Frames read as BGR against frames read as RGB."""
    source, *_ = clips
    assert value(SourcePsnr, source, source.flip(1)) < 20
    assert value(SourceSsim, source, source.flip(1)) < 0.9
