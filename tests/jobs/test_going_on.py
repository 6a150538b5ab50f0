"""An edit that was stopped goes on, and ends with the bytes of one that never was."""

import dataclasses
import json
import resource

import pytest
from PIL import Image

from evenreel import EditSettings, RegionUse, edit_file
from evenreel.backbones import load_backbone
from evenreel.diffusion.inversion import Inverted
from evenreel.errors import OutputError, SettingsError
from evenreel.inversions.base import SourceClip
from evenreel.jobs import inversions, pace, places
from evenreel.jobs.job import Job, all_jobs
from video.making import moving, write_clip

HOSTS = {
    "frame": {},
    "text2video_zero": {},
    "tokenflow": {"host_options": {"window": 2}},
    "vid2vid_zero": {"host_options": {"window": 2}},
    "vidtome": {"host_options": {"chunk_size": 2}},
}
CARRYING = {"vid2vid_zero": {"host_options": {"published": True}}}


class Stopped(BaseException):
    """As if the process were gone: nothing of ours handles it."""


class Counted:
    """A model that counts the frames it predicts noise for."""

    def __init__(self, backbone) -> None:
        self.frames, self._predict = 0, backbone.predict_noise
        backbone.predict_noise = self.predict_noise

    def predict_noise(self, latents, *args, **kwargs):
        self.frames += len(latents)
        return self._predict(latents, *args, **kwargs)


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def counted(backbone):
    made = Counted(backbone)
    yield made
    del backbone.predict_noise


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pace, "LEAST", 0)  # everything is kept at once
    return tmp_path / "cache"


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", moving(4, 64, 64))


@pytest.fixture
def make(clip, tmp_path, backbone, tiny_folder):
    def edit(name="out.mp4", *, job="auto", stop=None, **changes):
        """Edit; `stop` (stage, done) ends it as a kill would, once so much of the stage is done."""

        def progress(stage, done, total):
            if stop == (stage, done):
                raise Stopped

        quick = {"prompt": "a star", "steps": 3, "model": str(tiny_folder), "device": "cpu", "batch": 2}
        settings = EditSettings(**{**quick, "size": 64, **changes})
        return edit_file(
            clip, tmp_path / name, settings, backbone=backbone, job=job, progress=progress
        ).path.read_bytes()

    return edit


@pytest.mark.parametrize(
    ("host", "options"), [*HOSTS.items(), *CARRYING.items()], ids=[*HOSTS, "vid2vid_zero as published"]
)
def test_stopped_in_every_stage_it_ends_with_the_same_bytes(host, options, make, counted):
    told = {"host": host, "source_prompt": "a ball", **options}
    whole = make("whole.mp4", job=None, **told)
    cost, counted.frames = counted.frames, 0
    for stop in (("read and encode", 2), ("invert", 8), ("edit", 2)):
        with pytest.raises(Stopped):
            make(stop=stop, **told)
        assert all_jobs()[0].status == "failed"
    assert make(**told) == whole
    # Done again: a step of the inversion, and twice the comparison of prompts, two times for both of each frame.
    assert counted.frames - cost <= 6 + 2 * 16


def test_steps_that_share_features_go_on_from_where_they_need_nothing(make):
    told = {"host": "frame", "source_prompt": "a ball", "keep": "off", "steps": 6, "cache_interval": 3}
    whole = make("whole.mp4", job=None, **told)
    for done in (2, 4):  # one step and two after a group began
        with pytest.raises(Stopped):
            make(stop=("edit", done + 1), **told)
        assert make(**told) == whole


@pytest.mark.parametrize(
    ("inversion", "options"),
    [
        ("ddim", {"inversion_steps": 6}),
        ("bilateral", {"inversion_options": {"eta": 0.3}}),
        ("ddpm", {"inversion_options": {"skip": 0.0}}),
        ("fixed-point", {"inversion_options": {"budget": 2.0}}),
        ("null-text", {"inversion_options": {"inner_steps": 1}, "guidance_scale": 3.0}),
    ],
)
def test_every_inversion_goes_on(inversion, options, make):
    told = {"host": "frame", "inversion": inversion, **options}
    whole = make("whole.mp4", job=None, **told)
    for done in (8, 10):
        with pytest.raises(Stopped):
            make(stop=("invert", done), **told)
    assert make(**told) == whole


def test_an_inversion_that_is_halfway_is_not_begun_anew(make, counted):
    told = {"host": "frame", "host_options": {"pnp_attn": 0.0, "pnp_conv": 0.0}, "guidance_scale": 1.0}
    make("whole.mp4", job=None, inversion="ddim", **told)
    cost, counted.frames = counted.frames, 0
    with pytest.raises(Stopped):
        make(stop=("invert", 10), inversion="ddim", **told)
    make(inversion="ddim", **told)
    assert counted.frames == cost


def test_all_that_an_inversion_is_and_follows_from_is_kept():
    """A new field must be kept too, and be part of the key: then it is added here."""
    kept = {"timesteps", "trajectory", "null_embeds", "added_noise", "eta", "relative"}
    assert {one.name for one in dataclasses.fields(Inverted)} == kept
    decides = {
        "backbone",
        "latents",
        "timesteps",
        "prompt_embeds",
        "negative_prompt_embeds",
        "guidance_scale",
        "cache_interval",
    }
    decides |= {"refinement", "seed", "batch", "together", "may_be_relative", "motion"}
    assert {one.name for one in dataclasses.fields(SourceClip)} == decides | {"progress", "kept"}


@pytest.mark.parametrize(
    ("inversion", "options"), [("ddim", {}), ("flow-edit", {"inversion_options": {"beside": False}})]
)
def test_a_second_edit_of_a_clip_finds_its_inversion(inversion, options, make, counted):
    told = {"inversion": inversion, "source_prompt": "a ball", "keep": "off", **options}
    make("one.mp4", host="frame", **told)
    counted.frames = 0
    alone = make("alone.mp4", job=None, host="vidtome", prompt="a cube", **told)
    cost, counted.frames = counted.frames, 0
    found = make("two.mp4", host="vidtome", prompt="a cube", guidance_scale=None, **told)
    assert found == alone
    assert counted.frames == cost - 4 * 3
    counted.frames = 0
    make("three.mp4", host="vidtome", prompt="a cube", **{**told, "source_prompt": "a box"})
    assert counted.frames == cost


def test_another_model_or_source_begins_anew(make, clip):
    with pytest.raises(Stopped):
        make(stop=("edit", 2), host="frame")
    write_clip(clip, moving(4, 64, 64)[::-1])
    assert make(host="frame") == make("whole.mp4", job=None, host="frame")


def test_stopped_while_it_writes_it_only_writes(make, counted):
    with pytest.raises(Stopped):
        make(stop=("decode and write", 2), host="frame")
    counted.frames = 0
    make(host="frame")
    assert counted.frames == 0


@pytest.mark.parametrize("gone", ["encoded.safetensors", "reached.safetensors"])
@pytest.mark.parametrize("how", ["unlink", "cut"])
def test_what_is_gone_or_damaged_is_made_again(gone, how, make, tmp_path):
    job = tmp_path / "job"
    with pytest.raises(Stopped):
        make(job=str(job), stop=("edit", 2), host="frame")
    if how == "unlink":
        (job / gone).unlink()
    else:
        (job / gone).write_bytes((job / gone).read_bytes()[:700])
    assert make(job=str(job), host="frame") == make("whole.mp4", job=None, host="frame")


def test_a_folder_with_another_job_is_refused_in_one_sentence(make, tmp_path):
    job = tmp_path / "job"
    make(job=str(job), host="frame")
    with pytest.raises(
        SettingsError, match=r"is a job with prompt 'a star'; tell the same, or choose another job\.$"
    ):
        make(job=str(job), host="frame", prompt="a cube")
    told = json.loads((job / "job.json").read_text())
    (job / "job.json").write_text(json.dumps({**told, "version": 2}))
    with pytest.raises(
        OutputError, match=r"version 2, and this evenreel reads 1; use the evenreel that began it"
    ):
        make(job=str(job), host="frame")
    (job / "job.json").write_text("{")
    with pytest.raises(OutputError, match=r"job.json is damaged; delete the folder"):
        make(job=str(job), host="frame")
    (job / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match=r"holds other files \(thesis.txt\)"):
        make(job=str(job), host="frame")
    assert (job / "thesis.txt").exists()


def test_one_process_at_a_time(make, tmp_path):
    job = tmp_path / "job"
    make(job=str(job), host="frame")
    with Job.read(job).held(), pytest.raises(OutputError, match="is being worked on by another process"):
        make(job=str(job), host="frame")


LARGEST = 5000
"""Bytes of a file with which what is said of a job can be written, and what is kept of it cannot."""


def test_a_disk_that_fills_is_one_sentence_and_the_job_goes_on(make):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, before[1]))
    try:
        with pytest.raises(
            OutputError, match=r"cannot (keep what was done|be written) \(.*free (some )?space"
        ):
            make(host="frame")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all_jobs()[0].status == "failed"
    assert make(host="frame") == make("whole.mp4", job=None, host="frame")


def test_inversions_are_bounded_and_those_used_longest_ago_go_first(make, monkeypatch, cache):
    for prompt in ("a", "b", "c"):
        make(host="frame", source_prompt=prompt, inversion="ddim")
    folders = sorted((cache / "inversions").iterdir(), key=lambda path: (path / "state.json").stat().st_mtime)
    size = places.size_of(folders[0])
    monkeypatch.setenv("EVENREEL_CACHE_LIMIT", str(2.5 * size / 1e9))
    inversions.prune()
    assert sorted((cache / "inversions").iterdir()) == sorted(folders[1:])
    monkeypatch.setenv("EVENREEL_CACHE_LIMIT", "much")
    with pytest.raises(SettingsError, match="EVENREEL_CACHE_LIMIT must be a number of gigabytes, got 'much'"):
        places.limit()


def test_what_is_kept_is_read_by_safetensors_and_goes_when_the_job_is_done(make, cache):
    from safetensors.torch import load_file

    with pytest.raises(Stopped):
        make(stop=("edit", 2), host="frame")
    (job,) = (cache / "jobs").iterdir()
    assert load_file(job / "encoded.safetensors")["latents"].shape == (4, 4, 8, 8)
    assert load_file(job / "reached.safetensors")["latents"].shape == (4, 4, 8, 8)
    make(host="frame")
    assert sorted(path.name for path in job.iterdir()) == [".lock", "job.json"]


def test_each_prompt_of_several_regions_goes_on_where_it_was(make, tmp_path, cache):
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "left.png")
    region = (RegionUse(mask=str(tmp_path / "left.png"), prompt="a cube"),)
    told = {"host": "frame", "inversion": "ddim", "keep": "off", "cuts": "2", "region": region}
    whole = make("whole.mp4", job=None, **told)
    for scene in ("scene 1 of 2", "scene 2 of 2"):
        for prompt in ("prompt 1 of 2", "prompt 2 of 2"):
            with pytest.raises(Stopped):
                make(stop=(f"edit: {prompt}, {scene}", 2), **told)
    assert make(**told) == whole
    # one for each scene, which both prompts share
    assert len(list((cache / "inversions").iterdir())) == 2
    (job,) = (cache / "jobs").iterdir()
    assert sorted(path.name for path in job.iterdir()) == [".lock", "job.json"]
