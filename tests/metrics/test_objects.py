"""The object, a ring around it and the rest; the object along its own motion; sharpness and colour."""

import pytest
import torch
from torch.nn import functional

from closeness import assert_close
from evenreel.metrics.answer import RING, Parts, SeenAnswer, rigid_flow
from evenreel.metrics.appearance import gradient_energy
from evenreel.metrics.base import measure
from evenreel.metrics.objects import motion_ious
from evenreel.metrics.segmenter import mask_iou
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.workflows.world.edits import METRICS, WorldEdit, measured, softened
from evenreel.world import (
    HELD_OUT,
    Camera,
    Motion,
    Scene,
    SceneObject,
    main_flow,
    main_mask,
    random_scene,
    render,
)

SEEN = (
    "object_motion_iou",
    "object_warp_error",
    "ring_warp_error",
    "rest_warp_error",
    "object_truth_psnr",
    "ring_truth_psnr",
    "rest_truth_psnr",
    "sharpness_ratio",
    "saturation_ratio",
)


def rolling(shape="star", **changes) -> Scene:
    motion = Motion(kind="rolling", start=(-0.3, 0.1), velocity=(0.04, 0.0), spin=0.09)
    thing = SceneObject(shape=shape, colour="red", texture="checkered", radius=0.5, motion=motion)
    return Scene(background="grass", objects=(thing,), camera=Camera(velocity=(0.01, 0.0)), **changes)


@pytest.fixture(scope="module")
def edit():
    return WorldEdit(rolling("square"), {"shape": "star", "background": "snow"}, 6)


def of(edit, frames, *names):
    found = measured(edit, frames, None, names or SEEN)
    return found if len(names) != 1 else found[names[0]]


class TestMotionAndMasks:
    @pytest.mark.parametrize("seed", range(4))
    def test_they_are_those_of_the_rendering(self, seed):
        scene = random_scene(HELD_OUT + seed)
        whole, mask, flow = render(scene, range(3)), main_mask(scene, range(3)), main_flow(scene, range(3))
        assert torch.equal(mask, whole.masks[:, -1:])
        inside = (mask > 0.5).expand_as(flow)
        assert torch.equal(flow[inside], whole.flow[inside])

    @pytest.mark.parametrize("shape", ["star", "ring", "figure"])
    def test_a_mask_carried_along_is_the_next_one(self, shape):
        scene = rolling(shape)
        masks, flow = main_mask(scene, range(8)) > 0.5, main_flow(scene, range(7))
        still = motion_ious(masks, torch.zeros_like(flow))
        found = motion_ious(masks, flow)
        assert (found > (0.75 if shape == "figure" else 0.96)).all()  # limbs cross as they swing
        assert (found > still).all()

    @pytest.mark.parametrize("shape", ["star", "circle", "cross"])
    def test_a_similarity_says_how_the_object_moves_everywhere(self, shape):
        scene = rolling(shape)
        clip = render(scene, range(4))
        found = rigid_flow(clip.flow[:-1], clip.masks[:-1, -1:] > 0.5)
        assert_close(found, main_flow(scene, range(3)), within=0.001)

    def test_a_similarity_does_not_follow_a_few_wrong_places(self):
        scene = rolling("square")
        clip = render(scene, range(2))
        flow, places = clip.flow[:1].clone(), clip.masks[:1, -1:] > 0.5
        wrong = places & (torch.rand(places.shape, generator=torch.Generator().manual_seed(0)) < 0.1)
        flow[wrong.expand_as(flow)] += 5
        assert (rigid_flow(flow, places) - main_flow(scene, [0])).abs().max() < 0.2

    def test_what_is_seen_of_an_answer_is_near_to_what_is_known(self):
        pytest.importorskip("cv2")
        scene = rolling()
        clip, known = render(scene, range(5)), main_flow(scene, range(4))
        seen = SeenAnswer().between(clip.frames, 0)
        assert mask_iou(seen.parts.object, clip.masks[:, -1:] > 0.5).min() > 0.95
        masks = clip.masks[:, -1:] > 0.5
        assert motion_ious(masks, seen.object_flow).mean() > motion_ious(masks, known).mean() - 0.03

    def test_nothing_is_not_a_perfect_mask(self):
        nothing = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
        assert motion_ious(nothing, torch.zeros(1, 2, 16, 16)).tolist() == [0.0]

    def test_what_leaves_the_picture_does_not_count(self):
        before = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
        before[0, :, :, 12:], before[1, :, :, 14:] = True, True
        flow = torch.zeros(1, 2, 16, 16)
        flow[:, 0] = 2.0
        assert motion_ious(before, flow).tolist() == [1.0]

    def test_iou(self):
        one, other = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
        one[..., :2], other[..., 1:3] = 1, 1
        assert mask_iou(one > 0, other > 0).item() == pytest.approx(2 / 6)
        assert mask_iou(one, 0.5 * one).item() == pytest.approx(0.5)
        assert mask_iou(0 * one, 0 * other).item() == 1


class TestParts:
    def test_they_have_nothing_in_common_and_leave_nothing_out(self):
        parts = Parts.around(main_mask(rolling(), range(2)))
        total = parts.object.int() + parts.ring.int() + parts.rest.int()
        assert (total == 1).all()

    def test_the_ring_is_eight_pixels_wide(self):
        masks = torch.zeros(1, 1, 40, 40)
        masks[..., 20, 20] = 1
        ring = Parts.around(masks).ring
        assert ring.sum() == (2 * RING + 1) ** 2 - 1
        assert ring[0, 0, 20, 20 + RING]
        assert not ring[0, 0, 20, 20 + RING + 1]

    def test_an_error_in_a_part_shows_there_alone(self, edit):
        parts = Parts.around(edit.truth.masks[:, -1:])
        frames = edit.truth.frames
        noise = 0.2 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
        for name in ("object", "ring", "rest"):
            spoiled = (frames + noise * getattr(parts, name)).clamp(0, 1)
            found = of(edit, spoiled)
            for other in ("object", "ring", "rest"):
                assert (found[f"{other}_truth_psnr"] is not None) == (other == name)
            worst = max(("object", "ring", "rest"), key=lambda part: found[f"{part}_warp_error"])
            assert worst == name


class TestControls:
    """What the older figures are taken in by, these are not."""

    def test_the_right_answer_is_right(self, edit):
        found = of(edit, edit.truth.frames)
        assert found["sharpness_ratio"] == found["saturation_ratio"] == 1
        assert found["object_motion_iou"] > 0.95
        assert found["object_truth_psnr"] is None  # identical frames have none

    def test_blur_is_seen_in_sharpness(self, edit):
        plain, soft = (of(edit, frames) for frames in (edit.truth.frames, softened(edit.truth.frames)))
        assert soft["sharpness_ratio"] < 0.6 < plain["sharpness_ratio"]
        assert soft["object_motion_iou"] > 0.9  # it is not an outline that changes
        assert soft["saturation_ratio"] > 0.95

    def test_a_frozen_clip_is_seen_along_the_motion(self, edit):
        frozen = edit.truth.frames[:1].expand_as(edit.truth.frames)
        name = "object_motion_iou"
        assert of(edit, frozen, name) < of(edit, edit.truth.frames, name) - 0.05

    def test_shuffled_frames_are_seen_along_the_motion(self, edit):
        shuffled = edit.truth.frames[[3, 0, 5, 2, 4, 1]]
        name = "object_motion_iou"
        assert of(edit, shuffled, name) < of(edit, edit.truth.frames, name) - 0.15

    def test_an_outline_that_changes_is_seen_along_the_motion(self, edit):
        """Another shape in every other frame, in the right place and colours."""
        other = render(edit.target.edited(shape="circle"), range(edit.length)).frames
        mixed = torch.where(
            (torch.arange(edit.length) % 2 == 0)[:, None, None, None], edit.truth.frames, other
        )
        name = "object_motion_iou"
        assert of(edit, mixed, name) < of(edit, edit.truth.frames, name) - 0.15

    def test_grey_is_seen_in_saturation(self, edit):
        grey = edit.truth.frames.mean(1, keepdim=True)
        pale = grey + 0.5 * (edit.truth.frames - grey)
        assert of(edit, pale, "saturation_ratio") == pytest.approx(0.5, abs=1e-3)


def test_windows_change_nothing(edit):
    inputs = Inputs(truth=True, answer=edit.answer)
    kinds = {name: METRICS[name] for name in SEEN}
    noise = 0.1 * torch.randn(edit.truth.frames.shape, generator=torch.Generator().manual_seed(1))
    frames = (edit.truth.frames + noise).clamp(0, 1)
    found = [
        measure(windows(cut(edit.source.frames, frames, None, edit.truth.frames, n), inputs), kinds, inputs)
        for n in (16, 2, 1)
    ]
    for name in SEEN:
        values = [one[name].value for one in found]
        assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-4), name


def test_without_a_scene_they_say_why(edit):
    found = measure(
        windows(cut(edit.source.frames, edit.source.frames, None, edit.truth.frames), Inputs(truth=True)),
        {name: METRICS[name] for name in SEEN},
        Inputs(truth=True),
    )
    for name in SEEN:
        if name.endswith("_ratio"):
            assert found[name].value is not None
        else:
            assert "no motion of the right answer" in found[name].unavailable


def test_gradient_energy_of_a_step():
    frames = torch.zeros(1, 3, 4, 6)
    frames[..., 3:] = 1
    energy = gradient_energy(frames)
    assert energy.shape == (1, 3, 5)
    assert energy.sum() == pytest.approx(3)
    small = functional.avg_pool2d(frames, 2)
    assert gradient_energy(small).mean() != energy.mean()


def test_no_colour_has_no_ratio():
    grey = torch.full((2, 3, 8, 8), 0.5)
    inputs = Inputs(truth=True)
    found = measure(windows(cut(grey, grey, None, grey), inputs), {"it": METRICS["saturation_ratio"]}, inputs)
    assert "no colour" in found["it"].unavailable
