"""Sizes that models take: the shape of the picture stays, and going there and back loses little."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evenreel.errors import SettingsError
from evenreel.video import fit, from_model, to_model
from video.making import psnr, smooth


def batch(count: int, width: int, height: int) -> torch.Tensor:
    return torch.from_numpy(np.stack(smooth(count, width, height)))


@pytest.mark.parametrize(
    ("clip", "size", "multiple", "wanted"),
    [
        ((1920, 1080), 512, 8, (912, 512)),
        ((1080, 1920), 512, 8, (512, 912)),
        ((718, 718), 512, 64, (512, 512)),
        ((512, 512), None, 8, (512, 512)),
        ((1084, 1080), None, 8, (1088, 1080)),
        ((64, 24), None, 16, (64, 32)),  # halves go up
        ((1000, 10), 64, 64, (6400, 64)),
        ((7, 5), None, 64, (64, 64)),
    ],
)
def test_fit(clip, size, multiple, wanted):
    assert fit(*clip, size, multiple) == wanted


def test_fit_has_a_least_side():
    assert fit(20, 10, None, 8, minimum=64) == (64, 64)
    assert fit(20, 10, None, 8, minimum=60) == (64, 64)


@given(
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    size=st.none() | st.integers(1, 2048),
    multiple=st.sampled_from([1, 8, 16, 64]),
)
def test_fit_keeps_the_shape_to_within_half_a_multiple(width, height, size, multiple):
    fitted = fit(width, height, size, multiple)
    scale = (size or min(width, height)) / min(width, height)
    for side, got in zip((width, height), fitted, strict=True):
        assert got >= multiple
        assert got % multiple == 0
        assert got == multiple or abs(got - side * scale) <= multiple / 2 + 1e-6


@pytest.mark.parametrize("wrong", [(0, 8, 8, 8), (8, 8, 0, 8), (8, 8, -1, 8), (8, 8, 8, 0)])
def test_fit_refuses_sizes_that_are_none(wrong):
    with pytest.raises(SettingsError):
        fit(*wrong)


def test_every_level_survives_at_an_unchanged_size():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(1, 1, 1, 3)
    assert torch.equal(from_model(to_model(levels, (16, 16)), (16, 16)), levels)


def test_shapes_channels_and_range():
    pixels = batch(2, 40, 24)
    pixels[..., 0] = 255
    frames = to_model(pixels, (64, 32))
    assert frames.shape == (2, 3, 32, 64)
    assert frames.dtype == torch.float32
    assert frames[:, 0].min() > 0.999
    assert 0 <= frames.min() <= frames.max() <= 1
    back = from_model(frames, (40, 24))
    assert back.shape == pixels.shape
    assert back.is_contiguous()


@pytest.mark.parametrize("size", [(96, 72), (128, 96), (64, 64)])
def test_there_and_back(size):
    pixels = batch(2, 64, 48)
    assert psnr(from_model(to_model(pixels, size), (64, 48)), pixels) > 38


def test_shrinking_is_antialiased():
    """One-pixel stripes, five times too fine for the new size, become grey and not stripes of another width."""
    stripes = torch.zeros(1, 48, 160, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    assert (to_model(stripes, (32, 48))[..., 4:-4] - 0.5).abs().max() < 0.02


def test_values_beyond_the_range_are_clamped():
    frames = torch.tensor([-0.5, 0.5, 1.5]).reshape(1, 1, 1, 3).repeat(1, 3, 1, 1)
    assert from_model(frames, (3, 1))[0, 0, :, 0].tolist() == [0, 128, 255]


def test_half_precision_is_taken():
    frames = to_model(batch(1, 32, 32), (32, 32)).to(torch.bfloat16)
    assert psnr(from_model(frames, (32, 32)), batch(1, 32, 32)) > 45
