"""A mask that is painted on one frame and carried along the clip, in edits and as a file of its own."""

import builtins
from fractions import Fraction

import pytest
import torch
from PIL import Image

import evenreel
from evenreel import EditSettings, RegionUse, edit_file
from evenreel.cli import main
from evenreel.errors import ClipError, PluginError, SettingsError
from evenreel.ops.regions import grown
from evenreel.video import VideoWriter, load
from evenreel.workflows.editing.mask_file import mask_file
from evenreel.workflows.editing.regions import mask_models
from evenreel.workflows.editing.regions.region import feather_of
from evenreel.workflows.editing.repeat import repeat_edit
from evenreel.world import Motion, Scene, SceneObject, render
from video.making import write_clip

pytest.importorskip("cv2")

SIZE = (96, 64)
"""Width and height."""


def scene(background="sand", colour="red"):
    motion = Motion(kind="sliding", start=(-0.5, 0.0), velocity=(0.06, 0.0))
    thing = SceneObject(shape="square", colour=colour, radius=0.4, motion=motion)
    return Scene(background=background, objects=(thing,))


def saved(path, *scenes, frames=10):
    """A clip of PNGs with one scene after the other, and where the object is in each frame."""
    parts = [render(one, range(frames), SIZE[::-1], maps=False) for one in scenes]
    pixels = torch.cat(
        [(part.frames * 255).round().byte().permute(0, 2, 3, 1).contiguous() for part in parts]
    )
    with VideoWriter(path, *SIZE) as writer:
        writer.write(pixels, tuple(Fraction(number, 8) for number in range(len(pixels))))
        writer.finish()
    return torch.cat([part.masks[:, -1] for part in parts]) > 0.5


def painted(path, mask):
    Image.fromarray(mask.numpy()).save(path)
    return str(path)


def white(folder):
    return load(folder).frames[..., 0] > 127


@pytest.mark.parametrize("frame", [0, 4, 9])
def test_what_is_painted_on_one_frame_is_followed_both_ways(frame, tmp_path):
    exact = saved(tmp_path / "in", scene())
    told = EditSettings(mask=painted(tmp_path / "mask.png", exact[frame]), mask_frame=frame)
    shares = mask_file(tmp_path / "in", tmp_path / "out", told)
    found = white(tmp_path / "out")
    assert torch.equal(found[frame], exact[frame])
    overlaps = (found & exact).flatten(1).sum(1) / (found | exact).flatten(1).sum(1)
    assert overlaps.min() > 0.8
    assert shares == pytest.approx((~found).flatten(1).float().mean(1).tolist())


@pytest.mark.parametrize("parts", [{"batch": 1}, {"batch": 2}, {"batch": 16}])
def test_windows_change_nothing(parts, tmp_path):
    exact = saved(tmp_path / "in", scene())
    mask = painted(tmp_path / "mask.png", exact[5])
    mask_file(tmp_path / "in", tmp_path / "one", EditSettings(mask=mask, mask_frame=5, batch=5))
    mask_file(tmp_path / "in", tmp_path / "other", EditSettings(mask=mask, mask_frame=5, **parts))
    assert torch.equal(white(tmp_path / "one"), white(tmp_path / "other"))


def test_it_stays_in_its_scene_and_says_so(tmp_path, caplog):
    exact = saved(tmp_path / "in", scene(), scene("night sky", "yellow"))
    told = EditSettings(mask=painted(tmp_path / "mask.png", exact[3]), mask_frame=3)
    mask_file(tmp_path / "in", tmp_path / "out", told)
    found = white(tmp_path / "out")
    assert not found[10:].any()
    assert found[:10].flatten(1).any(1).all()
    assert "carried through its scene, frames 0 to 9" in caplog.text
    whole = EditSettings(mask=told.mask, mask_frame=3, cuts="none")
    mask_file(tmp_path / "in", tmp_path / "whole", whole)
    assert white(tmp_path / "whole")[10:].any()


def test_what_leaves_the_picture_is_said(tmp_path, caplog):
    gone = Motion(kind="sliding", start=(0.8, 0.0), velocity=(0.2, 0.0))
    away = Scene(
        background="sand", objects=(SceneObject(shape="square", colour="red", radius=0.3, motion=gone),)
    )
    exact = saved(tmp_path / "in", away)
    told = EditSettings(mask=painted(tmp_path / "mask.png", exact[0]), mask_frame=0)
    mask_file(tmp_path / "in", tmp_path / "out", told)
    assert "is not found in" in caplog.text
    assert not white(tmp_path / "out")[-1].any()


def test_an_edit_with_the_frame_is_the_edit_with_the_mask_that_is_written(tmp_path, settings, backbone):
    exact = saved(tmp_path / "in", scene())
    told = settings(mask=painted(tmp_path / "mask.png", exact[2]), mask_frame=2, frames=(1, 6))
    mask_file(tmp_path / "in", tmp_path / "written", told)
    clip = load(tmp_path / "in")
    one = evenreel.edit(clip, told, backbone=backbone)
    other = evenreel.edit(clip, settings(mask=str(tmp_path / "written"), frames=(1, 6)), backbone=backbone)
    assert torch.equal(one.frames, other.frames)
    assert one.record["kept"] == other.record["kept"]
    changed = (one.frames.int() - clip.frames[1:6].int()).abs().amax(-1) > 0
    assert changed[4].any()
    assert not (changed & ~grown(white(tmp_path / "written"), feather_of(*SIZE))).any()


def test_the_record_names_the_frame_and_is_repeated(tmp_path, settings):
    exact = saved(tmp_path / "in", scene(), frames=4)
    told = settings(mask=painted(tmp_path / "mask.png", exact[1]), mask_frame=1)
    record = edit_file(tmp_path / "in", tmp_path / "out", told).record
    assert record["settings"]["mask_frame"] == 1
    assert record["mask"]["sha256"]
    assert "carry" in record["seconds"]
    again = repeat_edit(record_of(tmp_path / "out"))
    assert torch.equal(load(again.path).frames, load(tmp_path / "out").frames)


def record_of(output):
    return output.with_suffix(".json")


def test_the_command_line_needs_no_prompt_and_no_model_for_a_mask(tmp_path, capsys):
    exact = saved(tmp_path / "in", scene(), frames=3)
    mask = painted(tmp_path / "mask.png", exact[0])
    assert main(["mask", str(tmp_path / "in"), "--mask", mask, "--mask-frame", "0"]) == 0
    assert "in-mask: 3 frames" in capsys.readouterr().out
    edit = ["edit", str(tmp_path / "in"), "--mask", mask, "--mask-frame", "0", "--job", "off"]
    assert main([*edit, "-o", str(tmp_path / "out.mp4")]) == 2
    assert "--prompt is empty; say what the clip shows" in capsys.readouterr().err


class TestWhatCannotBe:
    def test_settings(self):
        with pytest.raises(SettingsError, match="says on which frame mask was painted, and there is none"):
            EditSettings(prompt="a", mask_frame=0)
        with pytest.raises(SettingsError, match="mask_frame is 7, and frames 2:7 are edited"):
            EditSettings(prompt="a", mask="a.png", mask_frame=7, frames=(2, 7))
        with pytest.raises(SettingsError, match="mask_frame is 1, and frames 2: are edited"):
            EditSettings(prompt="a", mask="a.png", mask_frame=1, frames=(2, None))

    def test_a_frame_behind_the_end(self, tmp_path):
        exact = saved(tmp_path / "in", scene(), frames=3)
        told = EditSettings(mask=painted(tmp_path / "mask.png", exact[0]), mask_frame=3)
        with pytest.raises(SettingsError, match="mask_frame is 3, and frames 0 to 2 are edited"):
            mask_file(tmp_path / "in", tmp_path / "out", told)
        assert not (tmp_path / "out").exists()

    def test_a_clip_as_mask(self, tmp_path):
        exact = saved(tmp_path / "in", scene(), frames=3)
        (tmp_path / "masks").mkdir()
        for number in range(3):
            painted(tmp_path / "masks" / f"{number}.png", exact[number])
        told = EditSettings(mask=str(tmp_path / "masks"), mask_frame=0)
        with pytest.raises(SettingsError, match="has 3 frames; give one picture"):
            mask_file(tmp_path / "in", tmp_path / "out", told)

    def test_regions_have_no_part(self, tmp_path):
        exact = saved(tmp_path / "in", scene(), frames=2)
        mask = painted(tmp_path / "mask.png", exact[0])
        told = EditSettings(
            prompt="a star", mask=mask, mask_frame=0, region=(RegionUse(mask=mask, prompt="a cube"),)
        )
        with pytest.raises(SettingsError, match="region has no part in a mask that is followed"):
            mask_file(tmp_path / "in", tmp_path / "out", told)

    @pytest.mark.parametrize(
        ("value", "said"),
        [(False, "is black throughout the frames"), (True, "is white throughout the frames")],
    )
    def test_nothing_or_all_painted(self, value, said, tmp_path, settings, backbone):
        exact = saved(tmp_path / "in", scene(), frames=3)
        told = settings(mask=painted(tmp_path / "mask.png", torch.full_like(exact[0], value)), mask_frame=0)
        with pytest.raises(SettingsError, match=said):
            evenreel.edit(load(tmp_path / "in"), told, backbone=backbone)

    def test_frames_that_are_too_small(self, tmp_path):
        clip = write_clip(tmp_path / "in.mkv", torch.zeros(2, 6, 6, 3, dtype=torch.uint8).numpy())
        mask = torch.zeros(6, 6, dtype=torch.bool)
        mask[:3] = True
        told = EditSettings(mask=painted(tmp_path / "mask.png", mask), mask_frame=0)
        with pytest.raises(ClipError, match="no flow for frames of 6 x 6 pixels"):
            mask_file(clip, tmp_path / "out", told)

    def test_no_opencv(self, tmp_path, monkeypatch):
        exact = saved(tmp_path / "in", scene(), frames=2)
        told = EditSettings(mask=painted(tmp_path / "mask.png", exact[0]), mask_frame=0)
        known = builtins.__import__

        def absent(name, *more, **others):
            if name == "cv2":
                raise ImportError(name)
            return known(name, *more, **others)

        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(
            PluginError, match=r"needs OpenCV to follow the mask; install evenreel\[metrics\]"
        ):
            mask_file(tmp_path / "in", tmp_path / "out", told)


def test_large_frames_are_followed_small_and_come_back_large(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_models, "SIDE", 32)
    exact = saved(tmp_path / "in", scene())
    told = EditSettings(mask=painted(tmp_path / "mask.png", exact[0]), mask_frame=0)
    mask_file(tmp_path / "in", tmp_path / "out", told)
    found = white(tmp_path / "out")
    assert torch.equal(found[0], exact[0])
    assert (found[9] & exact[9]).sum() / (found[9] | exact[9]).sum() > 0.7
