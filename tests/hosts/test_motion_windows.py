"""Laws of the windows in which motion modules see a clip."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from evenreel.errors import SettingsError
from evenreel.hosts.motion_windows import MotionWindows, halving, overlapping, predict_fused

CUTS = [(17, 16, 4), (40, 16, 4), (64, 16, 2), (31, 8, 4), (9, 8, 7), (100, 5, 0), (33, 16, 1)]


def motion(**changes):
    fields = {
        "switch": SimpleNamespace(frames=1, is_on=False),
        "most": 32,
        "timesteps": (900, 600, 300, 0),
        "overlap": 4,
    }
    return MotionWindows(**(fields | changes))


@pytest.mark.parametrize(("frames", "size", "overlap"), CUTS)
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.9375])
def test_every_frame_counts_once(frames, size, overlap, shift):
    windows = overlapping(frames, size, overlap, shift)
    counted = [0.0] * frames
    for window in windows:
        assert max(1, size // 2) <= len(window.frames) <= size
        assert window.frames == tuple(range(window.frames[0], window.frames[-1] + 1))
        assert all(weight > 0 for weight in window.weights)
        for frame, weight in zip(window.frames, window.weights, strict=True):
            counted[frame] += weight
    assert counted == pytest.approx([1.0] * frames)
    starts = [window.frames[0] for window in windows]
    assert starts == sorted(starts)
    assert starts[0] == 0


@pytest.mark.parametrize(("frames", "size", "overlap"), CUTS)
def test_neighbours_share_frames(frames, size, overlap):
    for step in range(8):
        windows = overlapping(frames, size, overlap, halving(step))
        for one, other in pairwise(windows):
            assert len(set(one.frames) & set(other.frames)) >= overlap


def test_weights_fall_towards_seams_and_nowhere_else():
    first, second, *_ = overlapping(40, 16, 4, 0.0)
    assert first.frames == tuple(range(16))
    assert first.weights[:12] == (1.0,) * 12
    assert all(one > other for one, other in pairwise(first.weights[11:]))
    assert second.weights[:4] == pytest.approx([1 - weight for weight in first.weights[12:]])


def test_no_seam_stays_in_place():
    """Over sixteen steps, every frame is a seam about as often as any other; short last windows begin in one place."""
    seams = [0] * 64
    for step in range(16):
        for window in overlapping(64, 16, 4, halving(step))[1:]:
            seams[window.frames[0]] += 1
    assert max(seams[:56]) <= 2
    assert sum(count > 0 for count in seams[8:48]) > 30


def test_a_clip_that_fits_is_one_window_whatever_the_step():
    assert [overlapping(16, 16, 4, halving(step)) for step in range(4)] == [
        [(tuple(range(16)), (1.0,) * 16)]
    ] * 4


def test_ordered_halving():
    assert [halving(step) for step in range(6)] == [0, 0.5, 0.25, 0.75, 0.125, 0.625]


def test_the_windows_of_a_timestep_are_the_same_in_inversion_and_sampling():
    windows = motion()
    assert windows.cut(40, 300) == overlapping(40, 16, 4, halving(2))
    # a finer inversion's timesteps belong to the sampling's step below them
    assert windows.cut(40, 450) == windows.cut(40, 300)
    assert windows.cut(40, 900) == overlapping(40, 16, 4, 0.0)


def test_fused_predictions_are_a_weighted_mean():
    latents = torch.randn(40, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    windows = overlapping(40, 16, 4, 0.5)
    same = predict_fused(latents, windows, lambda window: latents[list(window.frames)])
    torch.testing.assert_close(same, latents)
    ones = predict_fused(
        latents, windows, lambda window: torch.full((len(window.frames), 4, 2, 2), float(window.frames[0]))
    )
    assert float(ones[0, 0, 0, 0]) == 0.0
    both = [window for window in windows if 10 in window.frames]
    expected = sum(window.weights[window.frames.index(10)] * window.frames[0] for window in both)
    assert float(ones[10, 0, 0, 0]) == pytest.approx(expected)


def test_modules_work_only_inside_a_call():
    windows = motion()
    with windows.passing(5):
        assert (windows.switch.frames, windows.switch.is_on) == (5, True)
    assert not windows.switch.is_on
    with windows.passing(1):
        assert not windows.switch.is_on
    with pytest.raises(KeyError), windows.passing(2):
        raise KeyError
    assert not windows.switch.is_on


def test_too_many_frames_at_once():
    assert motion().whole(20).size == 20
    with pytest.raises(SettingsError, match="at most 32"):
        motion().whole(33)


def test_frames_of_one_colour_pass_apart():
    plain = frozenset({0, 7, 20})
    others = [frame for frame in range(40) if frame not in plain]
    *windows, last = motion(apart=plain).cut(40, 600)
    assert last.frames == (0, 7, 20)
    assert windows == [
        (tuple(others[row] for row in rows), weights) for rows, weights in motion().cut(37, 600)
    ]
    # where nothing else is there, nothing is left out
    assert motion(apart=frozenset(range(40))).cut(40, 600) == motion().cut(40, 600)
