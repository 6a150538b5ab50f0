"""The renderer's maps must be true of its pictures."""

import pytest
import torch
from torch.nn import functional

from evenreel.errors import SettingsError
from evenreel.world import (
    ATTRIBUTES,
    Camera,
    Motion,
    Scene,
    SceneObject,
    caption,
    captions,
    keypoints,
    random_scene,
    render,
)
from evenreel.world.scene import BACKGROUNDS, SHAPES, STYLES


def moving_scene(shape: str = "star", background: str = "grass", **changes) -> Scene:
    motion = Motion(kind="rolling", start=(-0.2, 0.1), velocity=(0.03, 0.01), spin=0.05)
    thing = SceneObject(shape=shape, colour="red", texture="checkered", radius=0.5, motion=motion)
    return Scene(
        background=background, objects=(thing,), camera=Camera(velocity=(0.02, -0.01), zoom=0.01), **changes
    )


def warp_back(frame: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample `frame` (3 h w) at where each pixel of the frame before goes."""
    height, width = frame.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    grid = torch.stack([(x + flow[0]) / width * 2 - 1, (y + flow[1]) / height * 2 - 1], dim=-1)
    return functional.grid_sample(frame[None], grid[None], padding_mode="border", align_corners=False)[0]


def test_rendering_is_deterministic() -> None:
    scene = random_scene(7)
    assert torch.equal(render(scene, [3, 4]).frames, render(scene, [3, 4]).frames)


def test_a_frame_does_not_depend_on_its_company() -> None:
    scene = random_scene(11)
    assert torch.equal(render(scene, range(6)).frames[4], render(scene, [4]).frames[0])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_flow_carries_each_frame_to_the_next(background: str) -> None:
    clip = render(moving_scene(background=background), [0, 1], 128)
    warped = warp_back(clip.frames[1], clip.flow[0])
    # Edges and newly covered pixels are interpolated; everything else must agree.
    mask = clip.masks[0, 0]
    smooth = (functional.max_pool2d(mask[None], 9, 1, 4) - -functional.max_pool2d(-mask[None], 9, 1, 4))[
        0
    ] < 0.01
    smooth[:6] = smooth[-6:] = smooth[:, :6] = smooth[:, -6:] = False
    error = (warped - clip.frames[0]).abs().mean(0)[smooth]
    still = (clip.frames[1] - clip.frames[0]).abs().mean(0)[smooth]
    assert error.mean() < 0.01
    assert error.mean() < 0.4 * still.mean()


def test_flow_can_go_over_several_frames() -> None:
    clip = render(moving_scene(), [2, 5], 256, ahead=3)
    inside = -functional.max_pool2d(-clip.masks[0], 5, 1, 2)[0] > 0.99
    step = render(moving_scene(), [2], 256)
    for flow, least, most in ((clip.flow, 0.97, 1.0), (step.flow, 0.0, 0.95)):
        assert least <= warp_back(clip.masks[1], flow[0])[0][inside].mean() <= most


@pytest.mark.parametrize("shape", SHAPES)
def test_flow_holds_inside_every_shape(shape: str) -> None:
    scene = moving_scene(shape)
    if shape == "figure":
        still = Motion(kind="sliding", start=(0.0, 0.0), velocity=(0.03, 0.0))
        scene = Scene(
            background="snow", objects=(SceneObject(shape=shape, colour="blue", radius=0.8, motion=still),)
        )
    clip = render(scene, [2, 3], 256)
    mask = clip.masks[0, 0]
    inside = -functional.max_pool2d(-mask[None], 5, 1, 2)[0] > 0.99
    assert inside.sum() > 100
    moved = warp_back(clip.masks[1], clip.flow[0])
    assert moved[0][inside].mean() > 0.97


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_lies_within_its_radius(shape: str) -> None:
    thing = SceneObject(shape=shape, colour="red", radius=0.6)
    mask = render(Scene(background="grass", objects=(thing,)), [0]).masks[0, 0]
    assert 0.05 < mask.mean() < 0.3
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0


def test_resolution_changes_detail_only() -> None:
    scene = moving_scene("circle")
    small, large = render(scene, [0], 64).frames, render(scene, [0], 256).frames
    assert (functional.avg_pool2d(large, 4) - small).abs().mean() < 0.01


def test_frames_can_be_oblong() -> None:
    clip = render(moving_scene(), [0, 1], (96, 160))
    assert clip.frames.shape == (2, 3, 96, 160)
    assert clip.flow.shape == (2, 2, 96, 160)
    assert clip.depth.shape == (2, 1, 96, 160)


def test_nearer_objects_hide_farther_ones() -> None:
    far = SceneObject(shape="circle", colour="red", radius=0.5)
    near = SceneObject(shape="square", colour="blue", radius=0.5)
    clip = render(Scene(background="sand", objects=(far, near)), [0])
    centre = clip.masks[0, :, 64, 64]
    assert centre.tolist() == [0, 1]
    assert clip.depth[0, 0, 64, 64] < clip.depth[0, 0, 64, 30] <= clip.depth[0, 0, 2, 2] == 1
    assert clip.masks.sum(1).max() <= 1


def test_an_edit_keeps_what_it_does_not_name() -> None:
    scene = moving_scene("circle")
    edited = scene.edited(colour="blue")
    before, after = render(scene, [0, 5]), render(edited, [0, 5])
    outside = (before.masks[:, :1] == 0).expand_as(before.frames)
    assert torch.equal(before.frames[outside], after.frames[outside])
    assert torch.equal(before.flow, after.flow)
    assert not torch.equal(before.frames, after.frames)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_an_attribute_looks_different(name: str) -> None:
    scene = moving_scene()
    pictures = [render(scene.edited(**{name: value}), [0]).frames for value in ATTRIBUTES[name]]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (one - other).abs().mean() > 1e-3


@pytest.mark.parametrize("style", STYLES)
def test_values_stay_in_range(style: str) -> None:
    frames = render(moving_scene(style=style), [0]).frames
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_unknown_values_are_refused() -> None:
    with pytest.raises(SettingsError, match="colour must be one of red"):
        SceneObject(shape="star", colour="beige")
    with pytest.raises(SettingsError, match="no such attribute: size"):
        moving_scene().edited(size="large")
    with pytest.raises(SettingsError, match="at least 8 x 8"):
        render(moving_scene(), [0], 4)


def test_captions_name_every_attribute() -> None:
    scene = moving_scene(style="poster")
    assert caption(scene) == "a red checkered star rolling over grass, poster"


def test_paraphrases_differ_and_repeat_exactly() -> None:
    scene = random_scene(3)
    found = captions(scene)
    assert len(set(found)) == len(found) == 20
    assert found == captions(scene)


def test_objects_stay_in_view() -> None:
    for seed in range(40):
        scene = random_scene(seed, objects=1)
        masks = render(scene, [0, 12, 23], 64, maps=False).masks[:, 0]
        assert (masks.mean((1, 2)) > 0.03).all(), seed


def test_joints_lie_in_figures_and_grow_with_the_picture() -> None:
    scene = moving_scene("figure")
    points = keypoints(scene, [0, 5, 9], (96, 128))
    assert points.shape == (3, 1, 18, 2)
    assert points[:, :, 14:].isnan().all(), "figures have no eyes and ears"
    mask = render(scene, [0, 5, 9], (96, 128)).masks[:, 0]
    for frame, joints in enumerate(points[:, 0, :14].long()):
        assert all(mask[frame, y, x] > 0.5 for x, y in joints.tolist())
    assert torch.allclose(keypoints(scene, [0, 5, 9], (192, 256)), 2 * points, rtol=1e-5, equal_nan=True)
    assert keypoints(moving_scene("star"), [0]).isnan().all()


def test_depth_is_exact_also_without_the_other_maps() -> None:
    scene = random_scene(5, objects=2)
    assert torch.equal(render(scene, [0, 7], maps=False).depth, render(scene, [0, 7]).depth)
