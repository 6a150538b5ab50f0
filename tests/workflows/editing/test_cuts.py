"""Nothing passes over a cut: each scene is edited as if it were alone."""

import json

import pytest
import torch

import evenreel
from evenreel import EditSettings, edit_file, registry
from evenreel.backbones import load_backbone
from evenreel.errors import SettingsError
from evenreel.motion.folder import save_motion
from evenreel.video import load
from evenreel.workflows.editing.computing import keeping
from evenreel.world import random_scene, render
from motion.moving import random_motion
from video.making import write_clip

HOSTS = registry.names(registry.HOSTS)


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Six frames of one scene, then six of another, one of them black."""
    frames = torch.cat([render(random_scene(seed), range(6), 32).frames for seed in (3, 4)])
    frames[1] = 0
    pictures = (frames.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return write_clip(tmp_path_factory.mktemp("cut") / "cut.mkv", list(pictures), codec="ffv1")


@pytest.fixture
def settings(tiny_folder):
    def make(**changes):
        quick = {"prompt": "a star", "source_prompt": "a ball", "steps": 2, "model": str(tiny_folder)}
        # what is kept is found scene by scene too: `test_regions_end_at_cuts`
        return EditSettings(**{**quick, "device": "cpu", "batch": 3, "size": 32, "keep": "off", **changes})

    return make


def whole_and_parts(path, settings, backbone, **told):
    """The edit of the clip, and the edits of its scenes joined."""
    clip = load(path)
    whole = evenreel.edit(clip, settings(**told), backbone=backbone)
    parts = [
        evenreel.edit(clip, settings(**told, frames=part), backbone=backbone) for part in ((0, 6), (6, None))
    ]
    return whole, torch.cat([part.frames for part in parts])


@pytest.mark.parametrize(("host", "moved"), [*((host, False) for host in HOSTS), ("tokenflow", True)])
def test_a_scene_is_edited_as_if_alone(host, moved, path, settings, backbone, tmp_path):
    motion = str(save_motion(random_motion(backbone.unet), tmp_path / "motion")) if moved else "off"
    told = {"host": host, "motion": motion, "motion_window": 4}
    whole, parts = whole_and_parts(path, settings, backbone, **told)
    assert whole.record["cuts"] == [6]
    assert torch.equal(whole.frames, parts)
    if host == "vid2vid_zero":
        joined = evenreel.edit(load(path), settings(**told, cuts="none"), backbone=backbone)
        assert not torch.equal(joined.frames, whole.frames)


def test_regions_end_at_cuts(path, settings, backbone, monkeypatch):
    """Of one scene a part is meant, of the other everything."""
    scenes = []

    def difference(pipeline, latents, prompt):
        scenes.append(latents)
        found = torch.zeros(len(latents), *latents.shape[2:])
        found[:, :2, :2] = 0.5
        return keeping.Compared(found if torch.equal(latents, scenes[0]) else found + 0.2, agreement=1.0)

    monkeypatch.setattr(keeping, "prompt_difference", difference)
    whole, parts = whole_and_parts(path, settings, backbone, host="frame", size=64, keep="auto")
    assert torch.equal(whole.frames, parts)
    shares = whole.record["kept"]["shares"]
    assert min(shares[:6]) > 0.3
    assert shares[6:] == [0] * 6


def test_cuts_that_are_told(path, settings, backbone):
    clip = load(path)
    told = evenreel.edit(clip, settings(cuts="0, 6"), backbone=backbone)
    assert told.record["cuts"] == [6]
    assert torch.equal(told.frames, evenreel.edit(clip, settings(), backbone=backbone).frames)
    part = evenreel.edit(clip, settings(cuts="0,3,8", frames=(2, 10)), backbone=backbone)
    assert part.record["cuts"] == [3, 8]
    assert evenreel.edit(clip, settings(cuts="none"), backbone=backbone).record["cuts"] == []
    assert evenreel.edit(clip, settings(cut_threshold=255.0), backbone=backbone).record["cuts"] == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"cuts": "6,3"}, "in order"),
        ({"cuts": "six"}, "auto, none, or numbers of frames"),
        ({"cuts": "6,6"}, "each once"),
        ({"cuts": "6", "cut_threshold": 30.0}, "cut_threshold has no effect unless cuts is auto"),
    ],
)
def test_cuts_that_cannot_be(told, says, settings):
    with pytest.raises(SettingsError, match=says):
        settings(**told)


def test_cuts_behind_the_end(path, settings, backbone):
    with pytest.raises(SettingsError, match="cuts names frame 12, and the clip has 12"):
        evenreel.edit(load(path), settings(cuts="6,12"), backbone=backbone)


def test_prompts_in_time_over_a_cut(path, settings, backbone):
    """A prompt that changes at the cut is, in each scene, one that does not change."""
    clip, told = load(path), {"host": "frame", "keep": "off"}
    whole = evenreel.edit(clip, settings(prompt="0: a star | 6: a cube", **told), backbone=backbone)
    for part, prompt in (((0, 6), "a star"), ((6, None), "a cube")):
        alone = evenreel.edit(clip, settings(prompt=prompt, frames=part, **told), backbone=backbone)
        assert torch.equal(whole.frames[slice(*part)], alone.frames)


def test_an_anchor_of_one_scene(path, settings, backbone):
    told = {"host": "text2video_zero", "host_options": {"anchor": 8}}
    whole = evenreel.edit(load(path), settings(**told), backbone=backbone)
    alone = evenreel.edit(
        load(path),
        settings(host="text2video_zero", host_options={"anchor": 2}, frames=(6, None)),
        backbone=backbone,
    )
    assert torch.equal(whole.frames[6:], alone.frames)
    with pytest.raises(SettingsError, match="anchor must be below the number of frames, 12"):
        evenreel.edit(
            load(path), settings(host="text2video_zero", host_options={"anchor": 12}), backbone=backbone
        )


def test_a_job_goes_on_in_the_second_scene(path, settings, backbone, tmp_path):
    told = settings(host="frame", steps=3)
    edit_file(path, tmp_path / "whole", told, backbone=backbone)

    class StopError(Exception):
        pass

    def stop(stage, done, total):
        if stage == "edit: scene 2 of 2" and done == 2:
            raise StopError

    with pytest.raises(StopError):
        edit_file(path, tmp_path / "out", told, backbone=backbone, job=tmp_path / "job", progress=stop)
    assert {"reached.safetensors"} <= {one.name for one in (tmp_path / "job").iterdir()}
    seen = []
    edit_file(
        path,
        tmp_path / "out",
        told,
        backbone=backbone,
        job=tmp_path / "job",
        progress=lambda *one: seen.append(one),
    )
    assert not any(stage == "edit: scene 1 of 2" for stage, *_ in seen)
    for picture in (tmp_path / "whole").iterdir():
        assert picture.read_bytes() == (tmp_path / "out" / picture.name).read_bytes()
    assert not list((tmp_path / "job").glob("reached*"))
    assert json.loads((tmp_path / "out.json").read_text())["cuts"] == [6]
