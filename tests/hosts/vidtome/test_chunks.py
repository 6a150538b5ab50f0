import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenreel.hosts.vidtome.chunks import MERGED_TOGETHER, arrange, is_order, random_planner, rounds
from evenreel.hosts.windows import cut

ORDERS = ["seq", "rand", "mix", "mix-2", "mix-4"]


@given(
    frames=st.integers(1, 60),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**63 - 1),
    order=st.sampled_from(ORDERS),
)
def test_every_frame_is_in_one_chunk(frames, size, seed, order):
    for step_index in range(3):
        chunks = random_planner(seed, size, order)(step_index, frames)
        assert sorted(frame for chunk in chunks for frame in chunk.frames) == list(range(frames))
        for chunk in chunks:
            assert 1 <= len(chunk.frames) <= size
            assert list(chunk.frames) == sorted(chunk.frames)
            assert 0.0 <= chunk.coin < 1.0


@given(frames=st.integers(1, 60), size=st.integers(1, 9), data=st.data())
def test_chunks_are_cut_as_told(frames, size, data):
    first = data.draw(st.integers(0, size - 1))
    chunks = cut(frames, size, first)
    assert [frame for chunk in chunks for frame in chunk] == list(range(frames))
    assert len(chunks[0]) == min(first + 1, frames)
    assert all(len(chunk) == size for chunk in chunks[1:-1])


def test_plans_repeat_and_differ_between_steps_and_seeds():
    plans = [random_planner(seed, 4, "mix-4")(step, 40) for seed in range(3) for step in range(3)]
    assert plans[4] == random_planner(1, 4, "mix-4")(1, 40)
    assert len(set(plans)) == len(plans)


@given(frames=st.integers(1, 200), data=st.data())
def test_rounds_collapse_a_chunk_into_one_frame(frames, data):
    drawn = rounds(frames, lambda stride: data.draw(st.integers(0, stride - 1)))
    for destination in drawn:
        frames = len(range(destination, frames, min(MERGED_TOGETHER, frames)))
    assert frames == 1


def test_arrangements():
    chunks = [(0,), (1,), (2,), (3,)]
    assert arrange(chunks, 0.2, [2, 0, 3, 1], "seq") == chunks
    assert arrange(chunks, 0.8, [2, 0, 3, 1], "seq") == chunks[::-1]
    assert arrange(chunks, 0.2, [2, 0, 3, 1], "rand") == [(2,), (0,), (3,), (1,)]
    # The first at random is 2; of the rest 0, 1, 3 the last is nearer to it, so these run backwards.
    assert arrange(chunks, 0.2, [2, 0, 3, 1], "mix-4") == [(2,), (3,), (1,), (0,)]


@pytest.mark.parametrize(
    ("order", "known"), [(o, True) for o in ORDERS] + [("mix-1", False), ("mix-", False), ("", False)]
)
def test_known_orders(order, known):
    assert is_order(order) is known
