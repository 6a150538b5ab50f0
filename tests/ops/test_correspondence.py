import pytest
import torch
from torch.nn import functional

from closeness import assert_close
from evenreel.ops import correspondence
from evenreel.ops.correspondence import directions, nearest


def tokens(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_the_highest_cosine_similarity():
    ours, keys = tokens(3, 7, 5), tokens(11, 5, seed=1)
    expected = functional.cosine_similarity(ours[:, :, None], keys, dim=-1).argmax(-1)
    assert torch.equal(nearest(directions(ours), directions(keys)), expected)


@pytest.mark.parametrize("at_once", [1, 30, 77])
def test_nearest_does_not_depend_on_the_blocks(at_once, monkeypatch):
    ours, keys = directions(tokens(3, 7, 5)), directions(tokens(11, 5, seed=1))
    expected = nearest(ours, keys)
    monkeypatch.setattr(correspondence, "_SCORES_AT_ONCE", at_once)
    assert torch.equal(nearest(ours, keys), expected)


def test_a_picture_corresponds_to_itself():
    ours = directions(tokens(1, 50, 8))
    assert torch.equal(nearest(ours, ours[0])[0], torch.arange(50))


def test_directions_have_length_one_in_float32_and_zeros_stay():
    ours = directions(torch.cat([tokens(1, 4, 8) * 1e-3, torch.zeros(1, 1, 8)], dim=1).half())
    assert ours.dtype == torch.float32
    assert_close(ours.norm(dim=-1), torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]))
