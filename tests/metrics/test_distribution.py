"""Distances of sets of features against definitions written out, and their behaviour on samples of one Gaussian."""

import numpy as np
import pytest
import torch

from evenreel.metrics.distribution import FrechetClip, KidClip, frechet_distance, kernel_distance
from metrics.measuring import figure, value


def samples(count, width, seed, *, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(shift + scale * rng.normal(size=(count, width)))


def square_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def slow_frechet(one, other):
    """The trace of (S1 S2)^(1/2) as that of the symmetric (S1^(1/2) S2 S1^(1/2))^(1/2)."""
    one, other = one.numpy(), other.numpy()
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = square_root(first)
    both = square_root(root @ second @ root)
    apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return apart + np.trace(first) + np.trace(second) - 2 * np.trace(both)


def slow_kernel_distance(one, other):
    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    one, other = one.tolist(), other.tolist()
    m, n = len(one), len(other)
    within = sum(kernel(one[i], one[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within += sum(kernel(other[i], other[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(kernel(x, y) for x in one for y in other) / (m * n)


@pytest.mark.parametrize(("counts", "width"), [((30, 40), 6), ((5, 9), 12), ((2, 2), 3), ((7, 7), 7)])
def test_they_are_their_definitions(counts, width):
    one, other = samples(counts[0], width, 0), samples(counts[1], width, 1, shift=0.7, scale=1.5)
    assert frechet_distance(one, other) == pytest.approx(slow_frechet(one, other), rel=1e-6)
    assert kernel_distance(one, other) == pytest.approx(slow_kernel_distance(one, other), rel=1e-9)


def test_between_gaussians_it_is_the_closed_form():
    one, other = samples(20_000, 3, 0), samples(20_000, 3, 1, shift=2.0, scale=3.0)
    assert frechet_distance(one, other) == pytest.approx(3 * (2.0**2 + (3.0 - 1.0) ** 2), rel=0.03)


def test_equal_sets_are_no_distance_apart():
    one = samples(10, 16, 0)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one.flip(0)) == pytest.approx(0, abs=1e-9)


def test_frechet_is_biased_and_kernel_is_not():
    """Two samples of one Gaussian: the first seems far apart while samples are small, the second does not."""
    frechet = {}
    for count in (8, 64, 512):
        frechet[count] = frechet_distance(samples(count, 32, 0), samples(count, 32, 1))
    assert frechet[8] > 2 * frechet[64] > 8 * frechet[512] > 0
    kernel = [kernel_distance(samples(8, 32, 2 * k), samples(8, 32, 2 * k + 1)) for k in range(300)]
    error = np.std(kernel) / len(kernel) ** 0.5
    assert abs(np.mean(kernel)) < 3 * error
    assert min(kernel) < 0


def test_pairs_between_the_sets_all_count():
    """An evaluator that takes the diagonal out of the cross term too is off, most of all where frames correspond."""
    one = samples(6, 8, 0)
    other = one + 0.01 * samples(6, 8, 1)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    n = len(one)
    off = ~torch.eye(n, dtype=torch.bool)
    cross = kernel(one, other)
    wrong = kernel(one, one)[off].mean() + kernel(other, other)[off].mean() - 2 * cross[off].mean()
    assert kernel_distance(one, other) == pytest.approx(slow_kernel_distance(one, other), rel=1e-9)
    assert abs(kernel_distance(one, other) - float(wrong)) > 0.1


@pytest.mark.parametrize("length", [1, 3, 16])
def test_of_clips(clip, length):
    generator = torch.Generator().manual_seed(0)
    source, edit = torch.rand(2, 7, 3, 32, 32, generator=generator)
    features = clip.embed_frames(source).double(), clip.embed_frames(edit).double()
    found = figure(FrechetClip, source, edit, clip=clip, length=length)
    assert found.value == pytest.approx(slow_frechet(*features), rel=1e-3)
    assert found.note == "biased: from 7 frames; prefer kid_clip"
    kernel = value(KidClip, source, edit, clip=clip, length=length)
    assert kernel == pytest.approx(slow_kernel_distance(*features), rel=1e-3, abs=1e-4)


def test_one_frame_has_no_distribution(clip):
    one = torch.rand(1, 3, 32, 32)
    for kind in FrechetClip, KidClip:
        assert "one frame" in figure(kind, one, one, clip=clip).unavailable
