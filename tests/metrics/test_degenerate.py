"""Every metric on clips that have nothing in them, and on results that are none."""

import math

import pytest
import torch

from evenreel.metrics.answer import SeenAnswer
from evenreel.metrics.base import find, measure, registered
from evenreel.metrics.flow import EstimatedFlow, KnownFlow
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.ops.warp import visible_by_depth
from evenreel.world import HELD_OUT, caption, random_scene, render
from metrics.measuring import value


@pytest.fixture(scope="module")
def known(mini_clip, dino, lpips):
    """Everything that can be given."""
    pytest.importorskip("cv2")
    return {
        "prompt": "a blue star on snow",
        "source_prompt": "a red star on snow",
        "clip": mini_clip,
        "dino": dino,
        "lpips": lpips,
        "flow": EstimatedFlow(),
    }


def constant(level, frames=3, size=(40, 48)):
    return torch.full((frames, 3, *size), level)


def noise(frames=3, size=(40, 48), seed=0):
    return torch.rand(frames, 3, *size, generator=torch.Generator().manual_seed(seed))


CLIPS = {
    "one frame": (noise(1), noise(1, seed=1)),
    "one frame, twice the same": (noise(1), noise(1)),
    "identical": (noise(), noise()),
    "black": (constant(0.0), constant(0.0)),
    "white against black": (constant(0.0), constant(1.0)),
    "constant": (constant(0.5), constant(0.25)),
    "a single pixel": (noise(2, (1, 1)), noise(2, (1, 1), seed=1)),
    "tiny": (noise(2, (4, 5)), noise(2, (4, 5), seed=1)),
    "a thin line": (noise(2, (2, 90)), noise(2, (2, 90), seed=1)),
    "frozen": (noise(), noise(1, seed=1).expand(3, -1, -1, -1)),
}


def everything(source, edit, **known):
    height, width = source.shape[2:]
    background = torch.ones(len(source), 1, height, width, dtype=torch.bool)
    inputs = Inputs(mask=True, truth=True, answer=SeenAnswer(), **known)
    parts = cut(source, edit, background, source, length=2)
    return measure(windows(parts, inputs), registered(), inputs)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_figure_is_a_number_or_has_a_reason(clip, known):
    for name, found in everything(*CLIPS[clip], **known).items():
        if found.value is None:
            assert len(found.unavailable) > 10, name
        else:
            assert math.isfinite(found.value), name
            assert not found.unavailable


@pytest.mark.parametrize("clip", ["one frame", "one frame, twice the same"])
def test_one_frame_has_no_smoothness_at_all(clip, known):
    """Not 0, not 1, and no division by the number of its neighbours."""
    found = everything(*CLIPS[clip], **known)
    names = ("clip_f", "lpips_consecutive", "warp_error", "warp_ssim", "flicker", "s_edit", "q_edit")
    for name in (*names, "object_motion_iou", "object_warp_error", "ring_warp_error", "rest_warp_error"):
        assert found[name].value is None, name
        assert "one frame" in found[name].unavailable
    for name in ("frechet_clip", "kid_clip"):
        assert "one frame" in found[name].unavailable


def test_nothing_given_is_never_the_best_figure():
    """Weights that are missing must not look like a perfect or a zero score."""
    found = measure(windows(cut(*CLIPS["identical"]), Inputs()), registered(), Inputs())
    free = {name for name in found if not find(name).needs}
    own = {name for name in free if find(name).__module__.startswith("evenreel.")}
    assert own == {"source_psnr", "source_ssim"}
    for name in found.keys() - free:
        assert found[name].value is None
        assert found[name].unavailable.startswith("no ")


@pytest.fixture(scope="module")
def world(mini_clip, lpips):
    scene = random_scene(HELD_OUT + 7, objects=1)  # its camera rests: most of it stands still
    target = scene.edited(colour="blue" if scene.main.colour != "blue" else "red")
    before, after = (render(one, range(6), 128) for one in (scene, target))
    flow = before.flow[:-1]
    known = {
        "flow": KnownFlow(flow, visible_by_depth(before.depth, flow)),
        "clip": mini_clip,
        "lpips": lpips,
        "prompt": caption(target),
        "source_prompt": caption(scene),
    }
    return before.frames, after.frames, known


class TestControls:
    """Results that no editor should make, and the metrics that they win: why no figure is to be read alone."""

    def test_a_frozen_frame_wins_smoothness_over_the_right_answer(self, world):
        source, truth, known = world
        frozen = truth[:1].expand(6, -1, -1, -1)
        for name in ("flicker", "lpips_consecutive"):
            assert value(find(name), source, frozen, **known) == 0
            assert value(find(name), source, truth, **known) > 0
        assert value(find("clip_f"), source, frozen, **known) > value(find("clip_f"), source, truth, **known)

    def test_but_not_along_the_motion(self, world):
        source, truth, known = world
        frozen = truth[:1].expand(6, -1, -1, -1)
        assert value(find("warp_error"), source, frozen, **known) > value(
            find("warp_error"), source, truth, **known
        )

    def test_the_source_itself_wins_preservation_and_loses_what_was_asked_for(self, world):
        source, truth, known = world
        assert value(find("source_ssim"), source, source, **known) > value(
            find("source_ssim"), source, truth, **known
        )
        for name in ("asked", "clip_t"):
            assert value(find(name), source, source, **known) < value(find(name), source, truth, **known)

    def test_shuffled_frames_lose_smoothness(self, world):
        source, truth, known = world
        shuffled = truth[[3, 0, 5, 2, 4, 1]]
        for name in ("warp_error", "lpips_consecutive"):
            assert value(find(name), source, shuffled, **known) > 1.2 * value(
                find(name), source, truth, **known
            )

    def test_blur_lowers_warp_error(self, world):
        """An edit whose grain boils gets better by being blurred, if one asks this metric alone."""
        source, truth, known = world
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
        edit = (truth + 0.1 * noise).clamp(0, 1)
        blurred = torch.nn.functional.avg_pool2d(edit, 9, 1, 4)
        errors = [value(find("warp_error"), source, clip, **known) for clip in (blurred, edit)]
        assert errors[0] < errors[1] / 2

    def test_the_wrong_prompt_loses(self, world):
        source, truth, known = world
        wrong = {**known, "prompt": "a green ring on wood"}
        assert value(find("clip_t"), source, truth, **wrong) < value(find("clip_t"), source, truth, **known)
