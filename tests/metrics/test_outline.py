"""How near a mask's outline comes to the world's true shapes."""

import math
import random

import pytest
import torch
from torch.nn import functional

from closeness import assert_close
from evenreel.metrics.outline import SYMMETRY, fit_outlines, outline_iou
from evenreel.world import Motion, Scene, SceneObject, main_mask
from evenreel.world.scene import SHAPES


def scene(shape, radius=0.55, angle=0.0, start=(0.0, 0.0)):
    thing = SceneObject(shape=shape, colour="red", radius=radius, angle=angle, motion=Motion(start=start))
    return Scene(background="snow", objects=(thing,))


def placed(shape, count, seed=0):
    """Masks at random places, sizes and turns, some of them cut off by the edge."""
    rng = random.Random(f"{shape} {seed}")
    scenes = [
        scene(
            shape,
            rng.uniform(0.46, 0.66),
            rng.uniform(0, 2 * math.pi),
            (rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.3)),
        )
        for _ in range(count)
    ]
    return torch.cat([main_mask(one, [rng.uniform(0, 16)]) for one in scenes]) > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_a_true_outline_is_found(shape):
    found = outline_iou(placed(shape, 16), shape)
    assert found.min() >= 0.97


@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_fits_worse(shape):
    masks = placed(shape, 3, seed=1)
    own = outline_iou(masks, shape)
    for other in SHAPES:
        if other != shape:
            assert (outline_iou(masks, other) < own - 0.1).all(), other


def test_it_says_where_the_shape_is():
    masks = main_mask(scene("heart", 0.5, 0.6, (0.2, -0.1)), [0]) > 0.5
    found = fit_outlines(masks, "heart")
    assert found.centre[0].tolist() == pytest.approx([0.2 * 64, -0.1 * 64], abs=0.3)
    assert found.radius.item() == pytest.approx(0.5 * 64, rel=0.01)
    assert math.remainder(found.angle.item() - 0.6, 2 * math.pi) == pytest.approx(0, abs=0.02)
    assert found.pose.item() == 0


def test_it_says_how_the_figure_stands():
    masks = main_mask(scene("figure", 0.6), [3.5]) > 0.5
    found = fit_outlines(masks, "figure")
    # half a period later the other leg is in front, and the outline is the same but for rounding
    assert found.pose.item() % 8 == pytest.approx(3.5, abs=0.3)
    assert math.remainder(found.angle.item(), 2 * math.pi) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("shape", ["star", "square", "triangle", "diamond"])
def test_a_symmetric_shape_fits_in_every_turn(shape):
    turn = 2 * math.pi / SYMMETRY[shape]
    one, other = (main_mask(scene(shape, angle=0.2 + k * turn), [0]) > 0.5 for k in (0, 1))
    assert outline_iou(one, shape).item() == pytest.approx(outline_iou(other, shape).item(), abs=0.01)


def test_a_wobbly_star_is_no_star():
    """The more an outline is bent, the worse the best star fits."""
    mask = main_mask(scene("star", 0.6), [0])
    bend = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    bend = functional.interpolate(bend, (128, 128), mode="bicubic", align_corners=True).movedim(1, -1)
    grid = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, 128, 128], False)
    found = [
        outline_iou(
            functional.grid_sample(mask, grid + amount * bend, align_corners=False) > 0.5, "star"
        ).item()
        for amount in (0.0, 0.02, 0.06)
    ]
    assert found[0] > 0.97 > found[1] > found[2]
    assert found[2] < 0.85


def test_company_does_not_matter():
    masks = placed("star", 20)
    assert_close(outline_iou(masks, "star")[17:18], outline_iou(masks[17:18], "star"), within=0.005)


def test_nothing_has_no_outline():
    found = fit_outlines(torch.zeros(2, 1, 128, 128, dtype=torch.bool), "star")
    assert found.iou.tolist() == [0, 0]
    assert all(bool(torch.isfinite(value).all()) for value in vars(found).values())


def test_a_shape_that_there_is_not():
    with pytest.raises(ValueError, match="circle, square"):
        outline_iou(torch.zeros(1, 1, 128, 128, dtype=torch.bool), "cube")
