import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evenreel.ops import matching
from evenreel.ops.matching import Merge, match

SHAPES = {
    "samples": st.integers(1, 3),
    "sources": st.integers(1, 20),
    "destinations": st.integers(1, 10),
    "ratio": st.floats(0, 1),
    "aligned": st.booleans(),
    "seed": st.integers(0, 2**16),
}


def random_case(samples, sources, destinations, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(samples, sources + destinations, 6, generator=generator)
    order = torch.randperm(sources + destinations, generator=generator)
    return tokens, order[:sources], order[sources:]


@given(**SHAPES)
def test_what_stays_is_restored_exactly(samples, sources, destinations, ratio, aligned, seed):
    tokens, src, dst = random_case(samples, sources, destinations, seed)
    merge = match(tokens, src, dst, ratio, aligned=aligned)
    merged = merge.apply(tokens)
    assert merged.shape[1] == sources + destinations - int(sources * ratio)
    # Merging again what was restored gives the same: undo is a right inverse of apply.
    assert torch.equal(merge.apply(merge.undo(merged)), merged)
    restored = merge.undo(merged)
    assert torch.equal(restored[:, dst], tokens[:, dst])
    changed = (restored != tokens).any(-1).sum(1)
    assert (changed <= int(sources * ratio)).all()


@given(**(SHAPES | {"ratio": st.just(0.0)}))
def test_ratio_zero_loses_nothing(samples, sources, destinations, ratio, aligned, seed):
    tokens, src, dst = random_case(samples, sources, destinations, seed)
    merge = match(tokens, src, dst, ratio, aligned=aligned)
    assert torch.equal(merge.undo(merge.apply(tokens)), tokens)


def test_the_most_similar_merge_into_the_nearest():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [1.0, 1.1]]])
    merge = match(tokens, torch.tensor([2, 3]), torch.tensor([0, 1]), 0.5, aligned=False)
    assert merge.kept.tolist() == [[3, 0, 1]]
    assert merge.origin.tolist() == [[1, 2, 1, 0]]


def test_aligned_samples_share_one_decision():
    tokens, src, dst = random_case(3, 9, 4, 0)
    assert len(match(tokens, src, dst, 0.5, aligned=True).kept) == 1
    assert len(match(tokens, src, dst, 0.5, aligned=False).kept) == 3


def test_equal_samples_decide_alike_aligned_or_not():
    tokens, src, dst = random_case(1, 9, 4, 0)
    tokens = tokens.repeat(2, 1, 1)
    together, apart = (match(tokens, src, dst, 0.6, aligned=aligned) for aligned in (True, False))
    assert torch.equal(together.apply(tokens), apart.apply(tokens))


def test_merges_compose():
    tokens, src, dst = random_case(2, 12, 8, 3)
    first = match(tokens, src, dst, 0.5, aligned=True)
    shorter = first.apply(tokens)
    positions = torch.arange(shorter.shape[1])
    second = match(shorter, positions[:6], positions[6:], 0.5, aligned=False)
    both = first.then(second)
    assert torch.equal(both.apply(tokens), second.apply(shorter))
    merged = both.apply(tokens)
    assert torch.equal(both.undo(merged), first.undo(second.undo(merged)))


def test_nothing_merged_is_the_identity():
    tokens, src, dst = random_case(2, 5, 4, 0)
    merge = match(tokens, src, dst, 0.5, aligned=True)
    composed = Merge.nothing(9, tokens.device).then(merge)
    assert torch.equal(composed.kept, merge.kept)
    assert torch.equal(composed.origin, merge.origin)


def test_small_blocks_change_nothing(monkeypatch):
    tokens, src, dst = random_case(3, 40, 10, 5)
    expected = match(tokens, src, dst, 0.7, aligned=True)
    monkeypatch.setattr(matching, "_SCORES_AT_ONCE", 1)
    found = match(tokens, src, dst, 0.7, aligned=True)
    assert torch.equal(found.kept, expected.kept)
    assert torch.equal(found.origin, expected.origin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tokens_of_zeros_are_no_nan(dtype):
    tokens = torch.zeros(1, 4, 3, dtype=dtype)
    merge = match(tokens, torch.tensor([0, 1]), torch.tensor([2, 3]), 1.0, aligned=False)
    assert merge.apply(tokens).shape == (1, 2, 3)
