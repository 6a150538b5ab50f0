"""What is said of drawings, shown on drawings whose worth is known: renders, of the right shape and of another."""

import pytest
import torch
from PIL import Image

from evenreel.backbones import load_backbone
from evenreel.errors import OutputError
from evenreel.metrics.judge import packaged_judge
from evenreel.workflows.world import drawings
from evenreel.world import HELD_OUT, random_scene, render
from evenreel.world.scene import SHAPES

SCENES = [random_scene(HELD_OUT + 900 + i, objects=1) for i in range(12)]


def rendered(scenes):
    return torch.cat([render(scene, [0], maps=False).frames for scene in scenes])


@pytest.fixture
def perfect(monkeypatch):
    """A model that draws what it is told."""
    monkeypatch.setattr(drawings, "drawings", lambda backbone, scenes, *_: rendered(scenes))


def figures_of(scenes):
    found = drawings.generation_figures(load_backbone("mini", device="cpu"), packaged_judge(), scenes)
    return {figure.name: figure for figure in found}


def test_right_drawings_are_right(perfect):
    found = figures_of(SCENES)
    assert set(found) == {*drawings.WANTED, "outline, median", "outline, 10th percentile"}
    assert found["outline, median"].value > 93
    assert found["outline, median"].reached
    assert found["outline, 10th percentile"].value <= found["outline, median"].value
    assert found["outline, median"].interval is None  # no share of anything


def test_another_shape_is_no_right_drawing():
    round_ones = [scene.edited(shape="circle") for scene in SCENES]
    stars = [scene.edited(shape="star") for scene in SCENES]
    pictures = rendered(round_ones)
    own, others = (drawings.outline_ious(pictures, scenes) for scenes in (round_ones, stars))
    assert (others < own - 0.1).all()


def test_each_shape_has_its_sheet(perfect, tmp_path):
    files = drawings.contact_sheets(load_backbone("mini", device="cpu"), tmp_path / "sheets", count=3)
    assert [file.name for file in files] == [f"{shape}.png" for shape in SHAPES]
    with Image.open(files[0]) as sheet:
        assert sheet.width >= 3 * 128


def test_a_folder_that_cannot_be(perfect, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        drawings.contact_sheets(load_backbone("mini", device="cpu"), tmp_path / "file" / "sheets", count=1)


def test_a_model_draws():
    pictures = drawings.text_to_image(
        load_backbone("mini", device="cpu"), ["a red star on snow"], steps=2, guidance_scale=4.0, seed=0
    )
    assert pictures.shape == (1, 3, 128, 128)
    assert 0 <= pictures.min() <= pictures.max() <= 1
