"""LPIPS on random weights against the formula written out, and which frames it is said to compare."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from evenreel.errors import WeightsError
from evenreel.metrics.lpips import Lpips
from evenreel.metrics.perceptual import BackgroundLpips, LpipsConsecutive, LpipsSource
from metrics.measuring import figure, value
from towers import CONVOLUTIONS, lpips_weights


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(3)
    source = torch.rand(5, 3, 64, 48, generator=generator)
    edit = (source + 0.3 * torch.randn(source.shape, generator=generator)).clamp(0, 1)
    return source, edit


def slow_convolution(x, kernel, bias, stride, padding):
    """A convolution as a product of patches and kernels."""
    side = kernel.shape[-1]
    patches = functional.unfold(x[None], side, padding=padding, stride=stride)[0]
    height = (x.shape[1] + 2 * padding - side) // stride + 1
    return (kernel.flatten(1) @ patches + bias[:, None]).view(len(kernel), height, -1)


def slow_pool(x):
    rows, columns = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    return torch.stack(
        [
            torch.stack([x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].amax((1, 2)) for c in range(columns)], -1)
            for r in range(rows)
        ],
        -2,
    )


def slow_layers(frame, weights):
    """Activations of one frame in [0, 1]."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    x = (frame.double() * 2 - 1 - shift) / scale
    for row, number in enumerate(CONVOLUTIONS):
        if row in (1, 2):
            x = slow_pool(x)
        kernel, bias = (weights[f"features.{number}.{part}"].double() for part in ("weight", "bias"))
        stride, padding = (4, 2) if row == 0 else (1, 2 if row == 1 else 1)
        x = slow_convolution(x, kernel, bias, stride, padding).clamp_min(0)
        yield x


def slow_lpips(one, other, weights):
    """The sum over layers of the mean over places of weighted squared differences of unit vectors."""
    total = 0.0
    for row, (a, b) in enumerate(zip(slow_layers(one, weights), slow_layers(other, weights), strict=True)):
        a, b = a / a.norm(dim=0, keepdim=True), b / b.norm(dim=0, keepdim=True)
        channels = weights[f"lin{row}.model.1.weight"].double().flatten()
        total += float(((a - b) ** 2 * channels[:, None, None]).sum(0).mean())
    return total


def test_it_is_the_formula(clips, lpips):
    source, edit = clips
    weights = lpips_weights()
    expected = [slow_lpips(a, b, weights) for a, b in zip(source, edit, strict=True)]
    assert min(expected) > 0.01
    assert lpips.distances(source, edit).tolist() == pytest.approx(expected, rel=1e-4)
    assert value(LpipsSource, source, edit, lpips=lpips) == pytest.approx(sum(expected) / 5, rel=1e-4)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_consecutive_is_of_neighbours_in_the_edit(clips, lpips, length):
    source, edit = clips
    weights = lpips_weights()
    expected = [slow_lpips(edit[i], edit[i + 1], weights) for i in range(4)]
    found = value(LpipsConsecutive, source, edit, lpips=lpips, length=length)
    assert found == pytest.approx(sum(expected) / 4, rel=1e-4)
    # the source plays no part, and no frame is compared with itself, which would lower the mean
    assert found == pytest.approx(value(LpipsConsecutive, edit, edit, lpips=lpips), rel=1e-6)
    assert value(LpipsSource, source, edit, lpips=lpips, length=length) != pytest.approx(found, rel=1e-2)


def test_a_frozen_clip_is_perfectly_smooth(clips, lpips):
    source, edit = clips
    frozen = edit[:1].expand(5, -1, -1, -1)
    assert value(LpipsConsecutive, source, frozen, lpips=lpips) == 0
    assert value(LpipsSource, source, source, lpips=lpips) == 0


def test_the_background_counts_by_itself(clips, lpips):
    """The left is as in the source: far from what changed its distance is nothing, and the mean is over it only."""
    source = torch.rand(2, 3, 64, 256, generator=torch.Generator().manual_seed(0))
    edit = source.clone()
    edit[..., 192:] = 1 - edit[..., 192:]
    background = torch.zeros(2, 1, 64, 256, dtype=torch.bool)
    background[..., :32] = True
    assert value(BackgroundLpips, source, edit, lpips=lpips, background=background) < 1e-6
    assert value(BackgroundLpips, source, edit, lpips=lpips, background=~background) > 1e-3
    maps = lpips.distance_maps(source, edit)
    whole = value(BackgroundLpips, source, edit, lpips=lpips, background=torch.ones_like(background))
    assert whole == pytest.approx(maps.mean().item(), rel=1e-5)


def test_names_of_the_lpips_package_do_too(lpips, clips, tmp_path):
    renamed = {}
    for row, number in enumerate(CONVOLUTIONS):
        for part in ("weight", "bias"):
            renamed[f"net.slice{row + 1}.{number}.{part}"] = lpips_weights()[f"features.{number}.{part}"]
        renamed[f"lin{row}.model.1.weight"] = lpips_weights()[f"lin{row}.model.1.weight"]
    renamed["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    save_file(renamed, tmp_path / "whole.safetensors")
    other = Lpips.load(tmp_path / "whole.safetensors", device="cpu")
    assert torch.equal(other.distances(*clips), lpips.distances(*clips))
    assert other.fingerprint != lpips.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("lin3.model.1.weight"), "has no lin3.model.1.weight"),
        (lambda w: w.pop("features.6.bias"), "has no features.6.bias or net.slice3.6.bias"),
        (lambda w: w.update({"features.0.weight": torch.zeros(64, 3, 3, 3)}), "wants .64, 3, 11, 11"),
        (lambda w: w["features.0.bias"].fill_(float("nan")), "NaN"),
    ],
)
def test_weights_that_are_not_whole(change, words, tmp_path):
    weights = lpips_weights()
    change(weights)
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=words):
        Lpips.load(tmp_path / "bad.safetensors")


def test_a_pickle_is_refused(tmp_path):
    torch.save(lpips_weights(), tmp_path / "lpips.safetensors")
    with pytest.raises(WeightsError, match="pickle"):
        Lpips.load(tmp_path / "lpips.safetensors")


def test_one_frame_and_small_frames(clips, lpips):
    source, edit = clips
    assert "one frame" in figure(LpipsConsecutive, source[:1], edit[:1], lpips=lpips).unavailable
    small = torch.rand(2, 3, 30, 64)
    assert "too small for AlexNet" in figure(LpipsSource, small, small, lpips=lpips).unavailable
    assert value(LpipsSource, source[:, :, :31, :31], edit[:, :, :31, :31], lpips=lpips) > 0


def test_without_weights_it_is_unavailable_and_not_zero(clips):
    found = figure(LpipsSource, *clips)
    assert found.value is None
    assert "no LPIPS weights were given" in found.unavailable
