"""How TokenFlow cuts a clip into windows and a step into stages, and who takes from which keyframe."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenreel.hosts.tokenflow.keyframes import between, published_flows, random_draw, stages, windows

frame_counts = st.integers(1, 60)
sizes = st.integers(1, 9)


def shares(flows, batch):
    """For each frame of a batch, its share of each keyframe."""
    found = {frame: {} for frame in batch}
    for flow in flows:
        for row, weight in zip(flow.rows, flow.weights, strict=True):
            found[batch[row]][flow.keyframe] = weight
    return found


@given(frame_counts, sizes)
def test_windows_hold_every_frame_once_and_are_alike(frames, size):
    cut = windows(frames, size)
    assert [frame for window in cut for frame in window] == list(range(frames))
    lengths = {len(window) for window in cut}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(cut) == -(-frames // size)


@given(frame_counts, sizes, st.integers(0, 2**63 - 1))
def test_one_keyframe_is_drawn_in_each_window(frames, size, seed):
    keyframes = random_draw(seed, size)(3, frames)
    assert all(keyframe in window for keyframe, window in zip(keyframes, windows(frames, size), strict=True))
    assert keyframes == random_draw(seed, size)(3, frames)


def test_draws_change_with_the_step_and_the_seed_and_reach_every_frame():
    draw = random_draw(0, 8)
    steps = [draw(step, 64) for step in range(50)]
    assert len(set(steps)) == 50
    assert {keyframe for step in steps for keyframe in step} == set(range(64))
    assert draw(0, 64) != random_draw(1, 8)(0, 64)


@given(frame_counts, sizes, st.integers(1, 7), st.integers(0, 1000))
def test_stages_compute_keyframes_before_the_frames_that_need_them(frames, size, together, seed):
    keyframes = random_draw(seed, size)(0, frames)
    computed, held, ready = [], set(), []
    for stage in stages(keyframes, frames, together):
        assert len(stage.keyframes) <= together
        computed += stage.keyframes
        held |= set(stage.keyframes)
        ready += stage.ready
        assert all(flow.keyframe in held for flow in between(stage.ready, keyframes))
        assert held >= set(stage.past)
        held -= set(stage.past)
        assert len(held) <= 2 * together + 1  # however long the clip is
    assert sorted(computed) == list(keyframes)
    assert ready == list(range(frames))


def test_few_keyframes_are_one_stage():
    (stage,) = stages((2, 5, 9), 12, 3)
    assert stage.keyframes == (2, 5, 9)
    assert stage.ready == tuple(range(12))


def test_the_first_of_many_keyframes_are_from_all_over_the_clip():
    first, *later = stages(tuple(range(0, 64, 2)), 64, 4)
    assert first.keyframes == (8, 24, 40, 56)
    assert [stage.keyframes for stage in later[:2]] == [(0, 2, 4, 6), (10, 12, 14, 16)]


@given(frame_counts, sizes, st.integers(0, 1000))
def test_frames_take_from_the_keyframes_beside_them_in_proportion(frames, size, seed):
    keyframes = random_draw(seed, size)(0, frames)
    for frame, taken in shares(between(range(frames), keyframes), range(frames)).items():
        assert sum(taken.values()) == pytest.approx(1)
        if frame in keyframes:
            assert taken == {frame: 1.0}
        elif keyframes[0] < frame < keyframes[-1]:
            before, after = next(pair for pair in pairwise(keyframes) if pair[0] < frame < pair[1])
            # The mean of the keyframes' times, so weighted, is the frame's own.
            assert taken.keys() == {before, after}
            assert before * taken[before] + after * taken[after] == pytest.approx(frame)
        else:
            assert taken == {keyframes[0] if frame < keyframes[0] else keyframes[-1]: 1.0}


@given(frame_counts, sizes, st.data())
def test_who_takes_what_does_not_depend_on_the_batch(frames, size, data):
    keyframes = random_draw(0, size)(0, frames)
    start = data.draw(st.integers(0, frames - 1))
    batch = range(start, data.draw(st.integers(start + 1, frames)))
    whole = shares(between(range(frames), keyframes), range(frames))
    assert shares(between(batch, keyframes), batch) == {frame: whole[frame] for frame in batch}


def test_published_weights_of_windows_of_four():
    taken = shares(published_flows(range(4, 8), (1, 6), windows(8, 4)), range(4, 8))
    assert [taken[frame][6] for frame in range(4, 8)] == pytest.approx(
        [0.6225, 0.6792, 0.7311, 0.6971], abs=1e-4
    )
    assert shares(published_flows(range(4), (1, 6), windows(8, 4)), range(4)) == {
        frame: {1: 1.0} for frame in range(4)
    }
