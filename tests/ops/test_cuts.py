"""Cuts are found; fades, flashes, dissolves and fast motion are not taken for them."""

import pytest
import torch

from evenreel.ops.cuts import CutFinder, change, hsv
from evenreel.world import random_scene, render


def scene(seed, count=10):
    return render(random_scene(seed), range(count), 64).frames


def found(*parts, window=5, **told):
    finder = CutFinder(**told)
    for frames in torch.cat(parts).split(window):
        finder.see(frames)
    return finder.cuts()


@pytest.mark.parametrize("window", [1, 7, 100])
def test_cuts_are_found_wherever_windows_end(window):
    assert found(scene(3), scene(4), scene(5, 4), window=window) == [10, 20]


def test_scenes_of_the_world_are_told_apart():
    """Of sixty scenes in a row, all but those that look alike."""
    scenes = [scene(seed, 4) for seed in range(60)]
    cuts = found(*scenes)
    assert set(cuts) <= set(range(4, 240, 4))
    assert len(cuts) >= 56


def test_a_frame_blended_from_two_scenes_is_one_cut():
    one, other = scene(3), scene(4)
    assert found(one, (one[-1:] + other[:1]) / 2, other) == [10]


@pytest.mark.parametrize("length", [4, 6, 12])
def test_fades_are_no_cuts(length):
    one, other = scene(3), scene(4)
    down = torch.linspace(1, 0, length)[:, None, None, None]
    black = torch.zeros(3, *one.shape[1:])
    assert found(one, one[-1:] * down, black, other[:1] * down.flip(0), other) == []
    across = down.flip(0)
    assert found(one, one[-1:] * (1 - across) + other[:1] * across, other) == []


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flashes_are_no_cuts(length, level):
    one = scene(3, 20)
    assert found(one[:10], torch.full((length, *one.shape[1:]), level), one[10:]) == []


def test_what_changes_all_the_time_is_no_cut():
    assert found(torch.rand(40, 3, 32, 32).round()) == []
    noisy = torch.rand(40, 3, 4, 4)
    assert found(torch.nn.functional.interpolate(noisy, size=32)) == []


def test_the_threshold_decides():
    one, other = scene(3), scene(4)
    apart = change(*hsv(torch.stack([one[-1], other[0]])))
    assert found(one, other, threshold=0.8 * apart) == [10]
    assert found(one, other, threshold=1.2 * apart) == []


def test_hues_are_a_circle():
    red = torch.tensor([[1.0, 0.02, 0.0], [1.0, 0.0, 0.02]])[..., None, None].expand(-1, -1, 4, 4)
    assert change(*hsv(red)) < 2
    grey = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.51]])[..., None, None].expand(-1, -1, 4, 4)
    assert change(*hsv(grey)) < 5


def test_few_frames():
    assert found(scene(3, 1)) == []
    assert CutFinder().cuts() == []
    assert found(scene(3, 1), scene(4, 1)) == [1]
