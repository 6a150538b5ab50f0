"""Figures of the edited part alone, against loops over its pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from evenreel.metrics.clip import ClipText
from evenreel.metrics.flow import KnownFlow
from evenreel.metrics.foreground import (
    BackgroundWarpError,
    ForegroundClipText,
    ForegroundTruthPsnr,
    ForegroundWarpError,
    marked_square,
)
from evenreel.metrics.temporal import WarpError
from evenreel.ops.warp import visible_by_depth
from evenreel.world import HELD_OUT, random_scene, render
from metrics.measuring import figure, value
from metrics.test_clip import dot, unit
from metrics.test_streams import sampled

LENGTHS = (1, 2, 3, 16)
PROMPT = "a blue star on snow"


@pytest.fixture(scope="module")
def clip_of_world():
    return render(random_scene(HELD_OUT + 3, objects=1), range(5), (40, 56))


@pytest.fixture(scope="module")
def source(clip_of_world):
    return clip_of_world.frames


@pytest.fixture(scope="module")
def edit(source):
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    return (source.flip(1) + 0.1 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def known(clip_of_world):
    flow = clip_of_world.flow[:-1]
    return KnownFlow(flow, visible_by_depth(clip_of_world.depth, flow))


@pytest.fixture(scope="module")
def background():
    """What is marked moves from frame to frame, so that a shifted mask would show."""
    marked = torch.zeros(5, 1, 40, 56, dtype=torch.bool)
    for frame in range(5):
        marked[frame, :, 5 + 2 * frame : 25 + frame, 10 + 3 * frame : 18 + 4 * frame] = True
    return ~marked


def slow_warp_error(frames, known, counts):
    total, count = 0.0, 0
    for pair in range(len(frames) - 1):
        one, following = frames[pair].double().tolist(), frames[pair + 1].double().tolist()
        flow = known.flow[pair].tolist()
        for y in range(frames.shape[2]):
            for x in range(frames.shape[3]):
                if known.visible[pair, 0, y, x] and counts[pair][0][y][x]:
                    goes = x + flow[0][y][x], y + flow[1][y][x]
                    errors = [(sampled(following[c], *goes) - one[c][y][x]) ** 2 for c in range(3)]
                    total, count = total + sum(errors) / 3, count + 1
    return total / count


@pytest.mark.parametrize("length", LENGTHS)
def test_warp_errors_of_parts_are_those_of_a_loop(source, edit, known, background, length):
    given = {"flow": known, "background": background, "length": length}
    inside = slow_warp_error(edit, known, (~background).tolist())
    outside = slow_warp_error(edit, known, background.tolist())
    assert abs(inside / outside - 1) > 0.02
    assert value(ForegroundWarpError, source, edit, **given) == pytest.approx(inside, rel=1e-3)
    assert value(BackgroundWarpError, source, edit, **given) == pytest.approx(outside, rel=1e-3)


def test_parts_make_the_whole(source, edit, known, background):
    given = {"flow": known, "background": background}
    marked = float((known.visible & ~background[:-1]).sum() / known.visible.sum())
    inside, outside = (value(k, source, edit, **given) for k in (ForegroundWarpError, BackgroundWarpError))
    whole = value(WarpError, source, edit, **given)
    assert marked * inside + (1 - marked) * outside == pytest.approx(whole, rel=1e-5)


def test_noise_in_the_background_is_seen_there_and_not_in_the_foreground(source):
    """Of a clip that stands still, so that nothing crosses the mask's edge."""
    background = torch.ones(5, 1, 40, 56, dtype=torch.bool)
    background[..., 10:30, 12:40] = False
    noise = torch.rand(source.shape, generator=torch.Generator().manual_seed(1))
    edit = torch.where(background, noise, source[:1])
    still = KnownFlow(torch.zeros(4, 2, 40, 56), torch.ones(4, 1, 40, 56, dtype=torch.bool))
    given = {"flow": still, "background": background}
    assert value(ForegroundWarpError, source, edit, **given) < 1e-9
    assert value(BackgroundWarpError, source, edit, **given) == pytest.approx(1 / 6, rel=0.05)


@pytest.mark.parametrize("length", LENGTHS)
def test_truth_psnr_is_that_of_a_loop(source, edit, background, length):
    total, count = 0.0, 0
    for frame, channel, y, x in np.ndindex(*source.shape):
        if not background[frame, 0, y, x]:
            total += (edit[frame, channel, y, x].item() - source[frame, channel, y, x].item()) ** 2
            count += 1
    given = {"background": background, "truth": source, "length": length}
    assert value(ForegroundTruthPsnr, edit, edit, **given) == pytest.approx(
        -10 * math.log10(total / count), abs=1e-4
    )


def test_only_the_foreground_decides(source, edit, background, mini_clip):
    other = torch.where(background, 1 - edit, edit)
    given = {"background": background, "truth": source, "clip": mini_clip, "prompt": PROMPT}
    for kind in ForegroundTruthPsnr, ForegroundClipText:
        assert value(kind, source, edit, **given) == value(kind, source, other, **given)
    assert value(ClipText, source, edit, **given) != value(ClipText, source, other, **given)


def by_hand(frame, marked, size):
    """The marked part through numpy and Pillow, as CLIP sees it."""
    height, width = marked.shape
    ys = [y for y in range(height) if marked[y].any()]
    xs = [x for x in range(width) if marked[:, x].any()]
    side = max(ys[-1] - ys[0], xs[-1] - xs[0]) + 1
    top, left = (side - (ys[-1] - ys[0] + 1)) // 2, (side - (xs[-1] - xs[0] + 1)) // 2
    square = np.zeros((side, side, 3), np.uint8)
    for y in ys:
        for x in xs:
            if marked[y, x]:
                square[y - ys[0] + top, x - xs[0] + left] = np.rint(255 * frame[:, y, x].numpy())
    picture = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.from_numpy((picture - mean) / std).permute(2, 0, 1).float()


@pytest.mark.parametrize("length", [1, 2, 16])
def test_clip_text_of_the_part_is_that_of_transformers(clip, clip_folder, source, edit, background, length):
    model, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    marked = ~background[:, 0].numpy()
    pictures = torch.stack([by_hand(frame, marked[i], 32) for i, frame in enumerate(edit)])
    with torch.inference_mode():
        seen = model.get_image_features(pictures).pooler_output.double().tolist()
        ids = tokenizer(PROMPT, return_tensors="pt").input_ids
        text = unit(model.get_text_features(input_ids=ids).pooler_output[0].double().tolist())
    expected = sum(100 * dot(unit(row), text) for row in seen) / 5
    found = value(
        ForegroundClipText, source, edit, background=background, clip=clip, prompt=PROMPT, length=length
    )
    assert found == pytest.approx(expected, abs=0.1)


def test_frames_without_a_mark_do_not_count(source, edit, background, mini_clip):
    some = background.clone()
    some[1:] = True
    given = {"clip": mini_clip, "prompt": PROMPT}
    found = figure(ForegroundClipText, source, edit, background=some, **given)
    alone = value(ForegroundClipText, source[:1], edit[:1], background=background[:1], **given)
    assert found.value == pytest.approx(alone, abs=1e-5)
    assert found.note == "without 4 frames in which nothing is marked"
    assert not figure(ForegroundClipText, source, edit, background=background, **given).note


class TestMasks:
    def test_an_empty_one_leaves_no_foreground(self, source, edit, known, mini_clip):
        nothing = torch.ones(5, 1, 40, 56, dtype=torch.bool)
        given = {"background": nothing, "truth": source, "flow": known, "clip": mini_clip, "prompt": PROMPT}
        for kind in ForegroundTruthPsnr, ForegroundClipText:
            assert figure(kind, source, edit, **given).unavailable == "the mask marks nothing"
        assert "no marked place" in figure(ForegroundWarpError, source, edit, **given).unavailable
        assert value(BackgroundWarpError, source, edit, **given) == value(WarpError, source, edit, **given)

    def test_a_full_one_leaves_no_background(self, source, edit, known, mini_clip):
        everything = torch.zeros(5, 1, 40, 56, dtype=torch.bool)
        given = {"background": everything, "flow": known}
        assert "no place of the background" in figure(BackgroundWarpError, source, edit, **given).unavailable
        assert value(ForegroundWarpError, source, edit, **given) == value(WarpError, source, edit, **given)

    def test_one_pixel_is_enough(self, source, edit, mini_clip):
        marked = torch.zeros(5, 1, 40, 56, dtype=torch.bool)
        marked[:, :, 39, 0] = True
        given = {"background": ~marked, "truth": source, "clip": mini_clip, "prompt": PROMPT}
        assert -100 <= value(ForegroundClipText, source, edit, **given) <= 100
        assert marked_square(edit[0], marked[0]).equal(edit[0, :, 39:, :1])

    def test_one_frame_has_no_warp_error(self, source, edit, known, background):
        given = {"background": background[:1], "flow": known}
        for kind in ForegroundWarpError, BackgroundWarpError:
            assert "one frame" in figure(kind, source[:1], edit[:1], **given).unavailable

    def test_a_square_reaches_out_of_the_frame_in_black(self):
        frame, marked = torch.ones(3, 6, 9), torch.zeros(1, 6, 9, dtype=torch.bool)
        marked[0, :, 8] = True
        found = marked_square(frame, marked)
        assert found.shape == (3, 6, 6)
        assert found[:, :, 2].eq(1).all()
        assert found.sum() == 18
