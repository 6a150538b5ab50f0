"""Temporal figures, composites and the world's attributes, window by window."""

import math

import pytest
import torch

from evenreel.metrics.attributes import Asked, Kept
from evenreel.metrics.clip import ClipText
from evenreel.metrics.composite import QEdit, SEdit
from evenreel.metrics.flow import KnownFlow
from evenreel.metrics.temporal import Flicker, WarpError, WarpSsim, flicker, warp_error
from evenreel.ops.warp import visible_by_depth
from evenreel.world import HELD_OUT, caption, random_scene, render
from metrics.measuring import figure, value

LENGTHS = (1, 2, 3, 16)


@pytest.fixture(scope="module")
def scene():
    return random_scene(HELD_OUT + 3, objects=1)


@pytest.fixture(scope="module")
def edited(scene):
    colour = "blue" if scene.main.colour != "blue" else "red"
    background = "snow" if scene.background != "snow" else "grass"
    return scene.edited(colour=colour, background=background)


@pytest.fixture(scope="module")
def source(scene):
    return render(scene, range(5), (40, 56))


@pytest.fixture(scope="module")
def edit(edited):
    clip = render(edited, range(5), (40, 56)).frames
    return (clip + 0.05 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


@pytest.fixture(scope="module")
def known(source):
    flow = source.flow[:-1]
    return KnownFlow(flow, visible_by_depth(source.depth, flow))


@pytest.fixture(scope="module")
def prompts(scene, edited):
    return {"source_prompt": caption(scene), "prompt": caption(edited)}


def sampled(picture, x, y):
    """A picture (height x width lists) between its pixels, bilinearly."""
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(left + 1, len(picture[0]) - 1), min(top + 1, len(picture) - 1)
    fx, fy = x - left, y - top
    above = (1 - fx) * picture[top][left] + fx * picture[top][right]
    below = (1 - fx) * picture[bottom][left] + fx * picture[bottom][right]
    return (1 - fy) * above + fy * below


def slow_warp_error(frames, known):
    """Each visible place of each frame against where the source's flow says that it went."""
    total, count = 0.0, 0
    for pair in range(len(frames) - 1):
        one, following = frames[pair].double().tolist(), frames[pair + 1].double().tolist()
        flow = known.flow[pair].tolist()
        for y in range(frames.shape[2]):
            for x in range(frames.shape[3]):
                if known.visible[pair, 0, y, x]:
                    goes = x + flow[0][y][x], y + flow[1][y][x]
                    errors = [(sampled(following[c], *goes) - one[c][y][x]) ** 2 for c in range(3)]
                    total, count = total + sum(errors) / 3, count + 1
    return total / count


def slow_flicker(frames, known):
    total, count = 0.0, 0
    for pair in range(len(frames) - 1):
        for y in range(frames.shape[2]):
            for x in range(frames.shape[3]):
                dx, dy = known.flow[pair, :, y, x].tolist()
                if known.visible[pair, 0, y, x] and math.hypot(dx, dy) < 0.05:
                    total += (frames[pair + 1, :, y, x] - frames[pair, :, y, x]).abs().mean().item()
                    count += 1
    return total / count


@pytest.mark.parametrize("length", LENGTHS)
def test_warp_error_is_that_of_a_loop(source, edit, known, length):
    expected = slow_warp_error(edit, known)
    assert expected > 1e-3
    assert value(WarpError, source.frames, edit, flow=known, length=length) == pytest.approx(
        expected, rel=1e-3
    )
    assert warp_error(edit, known.flow, known.visible) == pytest.approx(expected, rel=1e-3)


def test_flicker_is_that_of_a_loop(source, edit, known):
    still = KnownFlow(known.flow * (torch.arange(56) > 20), known.visible)
    expected = slow_flicker(edit, still)
    for length in LENGTHS:
        found = value(Flicker, source.frames, edit, flow=still, length=length)
        assert found == pytest.approx(expected, rel=1e-4)
    assert flicker(edit, still.flow, still.visible) == pytest.approx(expected, rel=1e-4)


def test_the_motion_is_the_source_s(source, edit, known):
    """A frozen edit of a clip that moves is wrong by where things should have gone."""
    frozen = source.frames[:1].expand(5, -1, -1, -1)
    assert value(WarpError, source.frames, frozen, flow=known) > 2 * value(
        WarpError, source.frames, source.frames, flow=known
    )


def test_warp_ssim_is_high_along_the_motion(source, edit, known):
    along = [value(WarpSsim, source.frames, source.frames, flow=known, length=n) for n in LENGTHS]
    assert along == pytest.approx([along[0]] * 4, abs=1e-9)
    still = KnownFlow(torch.zeros_like(known.flow), known.visible)
    assert 1 > along[0] > value(WarpSsim, source.frames, source.frames, flow=still)
    frozen = source.frames[:1].expand(5, -1, -1, -1)
    assert value(WarpSsim, source.frames, frozen, flow=still) == pytest.approx(1)


@pytest.mark.parametrize("length", LENGTHS)
def test_composites_are_made_of_their_parts(source, edit, known, mini_clip, edited, length):
    given = {"flow": known, "clip": mini_clip, "prompt": caption(edited), "length": length}
    text = value(ClipText, source.frames, edit, **given)
    assert text > 0
    error = value(WarpError, source.frames, edit, **given)
    similarity = value(WarpSsim, source.frames, edit, **given)
    assert value(SEdit, source.frames, edit, **given) == pytest.approx(text / error, rel=1e-6)
    assert value(QEdit, source.frames, edit, **given) == pytest.approx(text * similarity, rel=1e-6)


def test_nothing_is_divided_by_zero(mini_clip):
    """A constant clip has no warp error at all: no quotient, not an infinite one, nor zero."""
    grey = torch.full((3, 3, 32, 32), 0.5)
    still = KnownFlow(torch.zeros(2, 2, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.bool))
    given = {"flow": still, "clip": mini_clip, "prompt": "a red star on sand"}
    assert value(WarpError, grey, grey, **given) == 0
    assert "zero" in figure(SEdit, grey, grey, **given).unavailable
    for kind in WarpError, WarpSsim, Flicker, SEdit, QEdit:
        found = figure(kind, grey[:1], grey[:1], **given)
        assert found.unavailable == "the clip has one frame, and this compares neighbours"


def test_below_zero_a_better_part_would_make_a_worse_whole(source, edit, known, mini_clip):
    """Of two edits with one negative CLIP-T, the quotient would prefer the one that is less steady."""
    given = {"flow": known, "clip": mini_clip, "prompt": "a"}
    assert value(ClipText, source.frames, edit, **given) < 0
    for kind in SEdit, QEdit:
        assert "CLIP-T is below zero" in figure(kind, source.frames, edit, **given).unavailable


def test_nothing_stands_still(source, edit, known):
    moving = KnownFlow(known.flow + 3, known.visible)
    assert (
        figure(Flicker, source.frames, edit, flow=moving).unavailable == "nothing in the source stands still"
    )


class TestAttributes:
    def test_the_right_answer_has_all(self, scene, edited, prompts):
        source, truth = (render(s, range(4), 128, maps=False).frames for s in (scene, edited))
        for kind in Asked, Kept:
            found = figure(kind, source, truth, length=3, **prompts)
            assert found.value == 100, found.note

    def test_the_source_has_only_what_was_to_stay(self, scene, prompts):
        source = render(scene, range(4), 128, maps=False).frames
        found = figure(Asked, source, source, **prompts)
        assert found.value == 0
        assert f"colour {scene.main.colour} (not " in found.note
        assert value(Kept, source, source, **prompts) == 100

    def test_half_of_what_was_asked_for(self, scene, edited, prompts):
        source = render(scene, range(4), 128, maps=False).frames
        half = render(scene.edited(background=edited.background), range(4), 128, maps=False).frames
        assert value(Asked, source, half, **prompts) == 50

    def test_most_frames_decide(self, scene, edited, prompts):
        source, truth = (render(s, range(5), 128, maps=False).frames for s in (scene, edited))
        most = torch.cat([truth[:3], source[3:]])
        assert value(Asked, source, most, length=2, **prompts) == 100
        few = torch.cat([truth[:2], source[2:]])
        assert value(Asked, source, few, length=2, **prompts) == 0

    def test_prompts_that_say_nothing_of_the_world(self, prompts):
        frames = torch.rand(1, 3, 32, 32)
        found = figure(Asked, frames, frames, **{**prompts, "prompt": "a man skiing"})
        assert found.unavailable == "the prompt 'a man skiing' is not a caption of the mini model's world"
        found = figure(Asked, frames, frames, **{**prompts, "prompt": prompts["source_prompt"]})
        assert found.unavailable == "the prompts ask for no change of an attribute"
