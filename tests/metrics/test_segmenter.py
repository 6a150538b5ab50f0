"""The network that finds the object, on scenes it has not seen."""

import hashlib

import pytest
import torch

from evenreel.backbones import load_backbone, mini
from evenreel.errors import WeightsError
from evenreel.metrics.segmenter import Segmenter, mask_iou, packaged_segmenter
from evenreel.world import HELD_OUT, random_scene, render

COUNT = 48


@pytest.fixture(scope="module")
def held_out():
    scenes = [random_scene(HELD_OUT + 3_000 + i) for i in range(COUNT)]
    found = [render(scene, [5 * i % 24], maps=False) for i, scene in enumerate(scenes)]
    return torch.cat([one.frames for one in found]), torch.cat([one.masks[:, -1:] for one in found]) > 0.5


def test_it_finds_the_object_of_unseen_scenes(held_out):
    pictures, masks = held_out
    found = mask_iou(packaged_segmenter().masks(pictures), masks)
    assert found.median() >= 0.96
    assert found.quantile(0.1) >= 0.9


def test_it_does_not_trip_over_an_autoencoder(held_out):
    pictures, masks = held_out
    backbone = load_backbone("mini", device="cpu")
    seen = backbone.decode(backbone.encode(pictures[:16]))
    assert mask_iou(packaged_segmenter().masks(seen), masks[:16]).median() >= 0.95


def test_company_does_not_matter(held_out):
    pictures, _ = held_out
    together = packaged_segmenter().masks(pictures)
    alone = packaged_segmenter().masks(pictures[7:8])
    assert mask_iou(alone, together[7:8]).item() > 0.999


def test_other_sizes_are_looked_at_too():
    rendering = render(random_scene(HELD_OUT + 3_001), [2], (96, 144), maps=False)
    masks = packaged_segmenter().masks(rendering.frames)
    assert masks.shape == (1, 1, 96, 144)
    assert mask_iou(masks, rendering.masks[:, -1:] > 0.5).item() > 0.9


def test_it_is_small_and_what_the_list_of_hashes_says():
    path = mini.FOLDER / "segmenter.safetensors"
    assert path.stat().st_size < 1_000_000
    listed = dict(line.split()[::-1] for line in (mini.FOLDER / "SHA256SUMS").read_text().splitlines())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == listed["segmenter.safetensors"]


def test_a_damaged_file(tmp_path):
    path = tmp_path / "segmenter.safetensors"
    path.write_bytes((mini.FOLDER / "segmenter.safetensors").read_bytes()[:-100])
    with pytest.raises(WeightsError):
        Segmenter.load(path)
