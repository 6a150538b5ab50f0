"""What the segmenter learns from, and that it learns."""

import pytest
import torch

from closeness import assert_close
from evenreel.metrics.segmenter import Segmenter
from evenreel.training.mini.pictures import Pool, render_one
from evenreel.training.mini.segmenter import (
    SegmenterTrainee,
    bent,
    drawn,
    roughened,
    through_latents,
)

COUNT = 12
CPU = torch.device("cpu")


class Few(Pool):
    """A pool in memory."""

    def __init__(self):
        self.pictures = torch.stack([render_one(seed) for seed in range(COUNT)])

    def batch(self, generator, size):
        seeds = torch.randint(COUNT, (size,), generator=generator)
        return seeds, self.pictures[seeds]


@pytest.fixture(scope="module")
def pool():
    return Few()


def test_a_number_is_a_batch(pool):
    one, again, other = (drawn(pool, CPU, seed=0, batch=6)(number) for number in (3, 3, 4))
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.masks, again.masks)
    assert not torch.equal(one.pictures, other.pictures)
    for values in one:
        assert 0 <= values.min() <= values.max() <= 1


def test_picture_and_mask_are_bent_alike():
    """A picture that is its own mask stays so."""
    masks = torch.zeros(4, 1, 128, 128)
    masks[:, :, 40:90, 30:100] = 1
    found, moved = bent(
        masks.expand(-1, 3, -1, -1), masks, torch.full((4,), 4.0), torch.Generator().manual_seed(0)
    )
    assert_close(found, moved.expand_as(found))
    assert not torch.equal(moved, masks)
    assert moved.sum().item() == pytest.approx(masks.sum().item(), rel=0.15)


def test_roughened_pictures_are_pictures(pool):
    some = pool.pictures[:6]
    rough = roughened(some, torch.Generator().manual_seed(0))
    assert 0 <= rough.min() <= rough.max() <= 1
    assert 0.01 < (rough - some).abs().mean() < 0.2


def test_a_third_goes_through_the_autoencoder(pool):
    passed = []

    def encode(found):
        passed.append(len(found))
        return found[:, :, ::8, ::8]

    def decode(latents):
        return latents.repeat_interleave(8, -1).repeat_interleave(8, -2)

    batch = drawn(pool, CPU, seed=0, batch=9, autoencoder=through_latents(encode, decode))(0)
    assert passed == [3]
    assert len(batch.pictures) == 9


def test_its_loss_falls(pool):
    torch.manual_seed(0)
    training = SegmenterTrainee(Segmenter())
    optimizer = torch.optim.AdamW(training.parameters(), lr=3e-3)
    batch = drawn(pool, CPU, seed=0, batch=4)(0)
    losses = []
    for _ in range(8):
        loss, figures = training(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert set(figures) == {"entropy", "soft_iou", "iou"}
    assert all(value.dim() == 0 and not value.requires_grad for value in figures.values())
