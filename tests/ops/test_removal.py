"""What was behind an object, from other frames."""

from dataclasses import replace

import pytest
import torch

cv2 = pytest.importorskip("cv2")

from evenreel.ops.regions import grown  # noqa: E402 - needs OpenCV
from evenreel.ops.removal import filled  # noqa: E402
from evenreel.world import Camera, Motion, Scene, SceneObject, render  # noqa: E402


def levels(frames):
    return (frames * 255).round().byte().permute(0, 2, 3, 1).contiguous()


def clip(background="bricks", camera=None, frames=12, velocity=(0.15, 0.0)):
    """A clip, the same without its object, and where that is."""
    motion = Motion(kind="sliding", start=(-0.6, 0.0), velocity=velocity)
    scene = Scene(
        background=background,
        objects=(SceneObject(shape="circle", colour="yellow", radius=0.3, motion=motion),),
        camera=camera or Camera(),
    )
    away = replace(scene, objects=(replace(scene.main, motion=Motion(start=(50.0, 50.0))),))
    shown, answer = (render(one, range(frames), 96, maps=False) for one in (scene, away))
    return levels(shown.frames), levels(answer.frames), grown(shown.masks[:, -1] > 0.01, 2)


def result(pictures, hidden):
    return torch.stack([torch.from_numpy(picture) for picture in filled(pictures, hidden)])


def error(one, other, where):
    return float((one.double() - other.double()).abs()[where].mean())


def test_behind_what_moves_past_is_what_other_frames_show_bit_for_bit_where_the_camera_stands_still():
    source, answer, hidden = clip(velocity=(0.2, 0.0))
    seen = ~hidden.all(0)
    found = result(source, hidden)
    assert torch.equal(found[:, seen], answer[:, seen])


def test_what_is_not_hidden_stays_bit_for_bit():
    source, _, hidden = clip(camera=Camera(velocity=(0.01, 0.005), zoom=0.003))
    found = result(source, hidden)
    assert torch.equal(found[~hidden], source[~hidden])
    assert not torch.equal(found, source)


def test_along_a_moving_camera_it_is_nearer_to_the_answer_than_inpainting_alone():
    source, answer, hidden = clip(camera=Camera(velocity=(0.01, 0.005)))
    alone = torch.stack(
        [
            torch.from_numpy(cv2.inpaint(picture.numpy(), hole.byte().numpy(), 3, cv2.INPAINT_NS))
            for picture, hole in zip(source, hidden, strict=True)
        ]
    )
    found = result(source, hidden)
    assert error(found, answer, hidden) < 0.5 * error(alone, answer, hidden)


def test_what_is_never_seen_is_made_up_once_and_stays_as_it_is():
    source, answer, hidden = clip(velocity=(0.0, 0.0))
    found = result(source, hidden)
    assert torch.equal(found, found[:1].expand_as(found))
    assert error(found, answer, hidden) < 0.5 * error(source, answer, hidden)


def test_nothing_hidden_is_the_source():
    source, _, hidden = clip(frames=3)
    assert torch.equal(result(source, torch.zeros_like(hidden)), source)


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(frames):
    source, _, hidden = clip(frames=frames)
    found = result(source, hidden)
    assert torch.equal(found[~hidden], source[~hidden])
    assert (found[hidden].int() - source[hidden].int()).abs().float().mean() > 10


def test_all_hidden_is_an_answer_too():
    source, _, hidden = clip(frames=2)
    assert result(source, torch.ones_like(hidden)).shape == source.shape
