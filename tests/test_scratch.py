"""Tensors as long as a clip: on disk they hold, and give, what they would in memory."""

import gc
import os
from pathlib import Path

import pytest
import torch

from evenreel import scratch
from evenreel.errors import OutputError


@pytest.fixture
def small(monkeypatch):
    """What is longer than two rows of four numbers lies on disk."""
    monkeypatch.setattr(scratch, "LIMIT", 32)
    monkeypatch.setattr(scratch, "PIECE", 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.bool])
@pytest.mark.parametrize("lengths", [[2], [1, 2, 4, 1], [9]])
def test_what_grows_is_what_was_added(small, dtype, lengths):
    rows = (torch.randn(sum(lengths), 4) * 3).to(dtype)
    growing = scratch.Growing()
    for part in rows.split(lengths):
        growing.append(part)
    assert len(growing) == len(rows)
    assert torch.equal(growing.tensor(), rows)


def test_one_layout_comes_out_of_another(small):
    for count in (1, 8):
        growing = scratch.Growing()
        growing.append(torch.arange(count * 4).view(2, 2, count).permute(2, 1, 0))
        assert growing.tensor().is_contiguous()
        assert torch.equal(growing.tensor(), torch.arange(count * 4).view(2, 2, count).permute(2, 1, 0))


def test_computed_in_pieces_is_computed_at_once(small):
    one, other, shared = torch.randn(23, 4), torch.randn(23, 4), torch.randn(1, 4)
    mix = scratch.in_pieces(lambda a, b, c, weight, *, shift: a * weight + b * c + shift)
    assert len(scratch.pieces(one, shared)) > 5
    assert torch.equal(mix(one, other, shared, 0.5, shift=2), one * 0.5 + other * shared + 2)
    # what is short beside something long is cut with it
    assert torch.equal(
        scratch.piecewise(torch.where, one[:, :1] > 0, one, other)[0],
        torch.where(one[0, 0] > 0, one[0], other[0]),
    )


def test_nothing_is_cut_while_it_is_small():
    rows = torch.randn(100, 4)
    assert scratch.pieces(rows) == [slice(0, 100)]
    assert scratch.piecewise(lambda x: x, rows) is rows


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list maps")
def test_a_map_goes_with_its_last_tensor(small):
    def maps():
        return Path("/proc/self/maps").read_text().count("(deleted)")

    gc.collect()  # what other tests left
    before = maps()
    tensor = scratch.room((1000, 4), torch.float32)
    part = tensor[:2]
    del tensor
    gc.collect()
    assert maps() == before + 1
    del part
    gc.collect()
    assert maps() == before


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve disk space")
def test_a_full_disk_is_one_sentence(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"no room for .* \(No space left on device\); free some"):
        scratch.room((1000, 4), torch.float32)
