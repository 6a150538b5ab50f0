"""`--remove`: files in and files out."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from PIL import Image

import evenreel
from evenreel import EditSettings, edit_file
from evenreel.cli import main
from evenreel.errors import ClipError, SettingsError
from evenreel.ops.regions import grown
from evenreel.video import VideoWriter, load
from evenreel.workflows.editing.computing import keeping
from evenreel.workflows.editing.regions.removed import margin_of
from evenreel.workflows.editing.repeat import repeat_edit
from evenreel.world import Motion, Scene, SceneObject, render

pytest.importorskip("cv2")

SIZE = (96, 64)
"""Width and height."""


def saved(path, frames=8):
    """A clip of PNGs, the clip without its object, and where that is."""
    motion = Motion(kind="sliding", start=(-0.9, 0.0), velocity=(0.2, 0.0))
    scene = Scene(
        background="bricks",
        objects=(SceneObject(shape="square", colour="yellow", radius=0.3, motion=motion),),
    )
    away = replace(scene, objects=(replace(scene.main, motion=Motion(start=(50.0, 50.0))),))
    shown, answer = (render(one, range(frames), SIZE[::-1], maps=False) for one in (scene, away))
    pixels, right = (
        (one.frames * 255).round().byte().permute(0, 2, 3, 1).contiguous() for one in (shown, answer)
    )
    with VideoWriter(path, *SIZE) as writer:
        writer.write(pixels, tuple(Fraction(number, 8) for number in range(frames)))
        writer.finish()
    return right, shown.masks[:, -1] > 0.01


@pytest.fixture
def settings(tiny_folder):
    def make(**changes) -> EditSettings:
        told = {"model": str(tiny_folder), "device": "cpu", "batch": 3, "remove": True, **changes}
        return EditSettings(**told)

    return make


def masks(folder, parts):
    folder.mkdir()
    for number, part in enumerate(parts):
        Image.fromarray(part.numpy()).save(folder / f"{number}.png")
    return str(folder)


def test_what_a_mask_shows_goes_and_what_was_behind_it_comes(tmp_path, settings, backbone):
    right, part = saved(tmp_path / "in")
    told = settings(mask=masks(tmp_path / "mask", part))
    result = edit_file(tmp_path / "in", tmp_path / "out", told, backbone=backbone)
    found, source = load(result.path).frames, load(tmp_path / "in").frames
    hidden = grown(part, margin_of(*SIZE))
    seen = ~hidden.all(0)
    assert torch.equal(found[:, seen], right[:, seen])
    assert torch.equal(found[~hidden], source[~hidden])
    assert result.record["kept"]["feather"] == margin_of(*SIZE)
    assert result.record["seconds"]["remove"] > 0
    again = repeat_edit(result.record_path)
    assert torch.equal(load(again.path).frames, found)
    memory = evenreel.edit(load(tmp_path / "in"), told, backbone=backbone)
    assert torch.equal(memory.frames, found)


def test_with_a_mask_that_is_carried_as_from_the_command_line(tmp_path, tiny_folder, capsys):
    right, part = saved(tmp_path / "in")
    Image.fromarray(part[3].numpy()).save(tmp_path / "mask.png")
    told = ["edit", str(tmp_path / "in"), "--mask", str(tmp_path / "mask.png"), "--mask-frame", "3"]
    told += ["--remove", "--model", str(tiny_folder), "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main(told) == 0
    assert "is the source's own, but for an edge of 1 pixel" in capsys.readouterr().err
    found, source = (load(tmp_path / name).frames.double() for name in ("out", "in"))
    before, after = ((one - right).abs()[part].mean() for one in (source, found))
    assert after < before / 4


def test_where_the_prompts_differ(tmp_path, settings, backbone, monkeypatch):
    saved(tmp_path / "in")

    def difference(pipeline, latents, prompt):
        found = torch.zeros(len(latents), *latents.shape[2:])
        found[:, 3:5, :5] = 10.0
        return keeping.Compared(found, agreement=1.0)

    monkeypatch.setattr(keeping, "prompt_difference", difference)
    told = settings(source_prompt="a square on bricks", prompt="bricks")
    clip = load(tmp_path / "in")
    found = evenreel.edit(clip, told, backbone=backbone)
    assert not torch.equal(found.frames[:, :, :32], clip.frames[:, :, :32])
    assert torch.equal(found.frames[:, :, 72:], clip.frames[:, :, 72:])


class TestWhatCannotBe:
    def test_nothing_says_what_is_to_go(self):
        with pytest.raises(SettingsError, match="remove needs to know what is to go; give mask"):
            EditSettings(prompt="sand", remove=True)
        with pytest.raises(SettingsError, match="prompt is empty"):
            EditSettings(source_prompt="a ball on sand", remove=True)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"prompt": "a ball"}, "change nothing"),
            ({"prompt": "sand", "keep": "off"}, "change all of a scene"),
        ],
    )
    def test_prompts_that_do_not_say_it(self, changes, said, tmp_path, settings, backbone):
        saved(tmp_path / "in", frames=2)
        with pytest.raises(SettingsError, match=said):
            evenreel.edit(
                load(tmp_path / "in"), settings(source_prompt="a ball", **changes), backbone=backbone
            )

    def test_frames_that_are_too_small(self, tmp_path, settings, backbone):
        with VideoWriter(tmp_path / "in", 6, 6) as writer:
            writer.write(torch.zeros(2, 6, 6, 3, dtype=torch.uint8), (Fraction(0), Fraction(1)))
            writer.finish()
        part = torch.zeros(2, 6, 6, dtype=torch.bool)
        part[:, :2] = True
        told = settings(mask=masks(tmp_path / "mask", part), size=64)
        with pytest.raises(ClipError, match="remove has no use: OpenCV estimates no flow"):
            evenreel.edit(load(tmp_path / "in"), told, backbone=backbone)
