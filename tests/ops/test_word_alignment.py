"""Words of prompts put in the place of each other, and tokens that prompts share."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from closeness import assert_close
from evenreel.ops.word_alignment import (
    published_refinement,
    published_replacement,
    refinement,
    replacement,
)

LENGTH = 16
token_counts = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=4)
token_ids = st.lists(st.integers(2, 5), max_size=LENGTH - 2).map(lambda words: [0, *words, 1])


def words_of(counts):
    """Positions of the tokens of words with so many tokens each."""
    ends = [1 + sum(counts[:i]) for i in range(len(counts) + 1)]
    return [tuple(range(a, b)) for a, b in pairwise(ends)]


def map_of(source, target, changed=None, mapped=replacement):
    changed = changed or [True] * len(source)
    return mapped(words_of(source), words_of(target), changed, LENGTH)


def test_equal_prompts_keep_their_attention():
    assert torch.equal(map_of([1, 2], [1, 2], [False, False]), torch.eye(LENGTH))
    assert torch.equal(
        map_of([1, 2], [1, 2], [False, False], mapped=published_replacement), torch.eye(LENGTH)
    )


def test_a_word_takes_over_from_the_one_in_its_place():
    """Two tokens for one: both take half; and back: one takes all of both."""
    mapping = map_of([1, 1, 1], [1, 2, 1], [False, True, False])
    assert mapping[2].nonzero().flatten().tolist() == [2, 3]
    assert mapping[2, 2] == mapping[2, 3] == 0.5
    assert mapping[3, 4] == 1  # the word after it
    assert mapping[4, 5] == 1  # the end mark
    back = map_of([1, 2, 1], [1, 1, 1], [False, True, False])
    assert back[2, 2] == back[3, 2] == back[4, 3] == back[5, 4] == 1


def test_words_of_equally_many_tokens_map_one_to_one():
    assert torch.equal(map_of([2, 2], [2, 2]), torch.eye(LENGTH))


@given(token_counts)
def test_no_attention_is_lost(counts):
    """Not the published way, which forgets some and counts some twice."""
    source, target = [a for a, _ in counts], [b for _, b in counts]
    assert_close(map_of(source, target).sum(1), torch.ones(LENGTH))


def test_the_published_tail_is_out_of_step():
    """It follows the target's positions only, after the last changed word."""
    mapping = map_of([1, 1, 1], [3, 1, 1], [True, False, False], mapped=published_replacement)
    assert mapping[1].nonzero().flatten().tolist() == [1, 2, 3]
    assert not mapping[2:4].any()  # the second word and the third
    assert mapping[4, 4] == 1  # the end mark, to the second word
    shorter = map_of([3, 1, 1], [1, 1, 1], [True, False, False], mapped=published_replacement)
    assert shorter[2, 1] == shorter[2, 2] == 1  # the first word's second token, to the second word too
    assert not shorter[:, LENGTH - 2 :].any()
    # Equal numbers of tokens are fine.
    assert torch.equal(map_of([1, 2], [1, 2], mapped=published_replacement), map_of([1, 2], [1, 2]))


@given(token_ids, token_ids)
def test_shared_tokens_are_found_in_order(source, target):
    mapping, counts = refinement(source, target, LENGTH)
    found = [(row, column) for column, row in enumerate(mapping[: len(target)].tolist()) if row >= 0]
    assert all(source[row] == target[column] for row, column in found)
    rows = [row for row, _ in found]
    assert rows == sorted(set(rows))
    assert rows[0] == 0
    assert rows[-1] == len(source) - 1
    assert len(rows) == longest_common(tuple(source), tuple(target))
    assert torch.equal(counts, (mapping >= 0).float())


def longest_common(source, target):
    """By brute force over what either leaves out."""
    if not source or not target:
        return 0
    if source[0] == target[0]:
        return 1 + longest_common(source[1:], target[1:])
    row = [0] * (len(target) + 1)
    for one in source:
        previous, row = row, [0]
        for column, other in enumerate(target):
            row.append(previous[column] + 1 if one == other else max(previous[column + 1], row[-1]))
    return row[-1]


@pytest.mark.parametrize(("source", "target"), [([0, 5, 1], [0, 1]), ([0, 1], [0, 5, 1])])
def test_padding_follows_padding(source, target):
    mapping, counts = refinement(source, target, LENGTH)
    shift = len(source) - len(target)
    rest = torch.arange(len(target), LENGTH)
    inside = rest + shift < LENGTH
    assert torch.equal(mapping[rest[inside]], rest[inside] + shift)
    assert not counts[rest[~inside]].any()
    published, _ = published_refinement(source, target, LENGTH)
    assert torch.equal(published[rest], rest)
    assert torch.equal(published[: len(target)], mapping[: len(target)])
