"""The page's queue, without a browser: what it makes is what the command line makes."""

import json
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evenreel import EditSettings, edit_file
from evenreel.cli.options import parsed
from evenreel.errors import ClipError, SettingsError
from evenreel.settings.words import words
from evenreel.web import form, pictures, queue
from evenreel.web.queue import Queue, page_jobs, waiting
from evenreel.workflows.editing.resume import resume_job
from video.making import moving, write_clip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def settings(tiny_folder):
    return EditSettings(prompt="a star", model=str(tiny_folder), device="cpu", host="frame", steps=1)


def test_it_makes_what_the_command_line_makes_and_goes_on_after_a_restart(settings, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64), audio="aac")
    first = Queue()
    job = first.submit(clip, settings)
    assert first.submit(clip, settings).name == job.name  # the same twice is one job
    clip.unlink()  # an upload that its browser takes back
    assert [one.name for one in waiting()] == [job.name]
    second = Queue()
    second.start()
    deadline = time.monotonic() + 120
    while page_jobs()[0].status != "done" and time.monotonic() < deadline:
        time.sleep(0.1)
    second.stop()
    (done,) = page_jobs()
    assert done.status == "done", done.state.error
    assert {"encode", "sample", "decode", "write"} <= set(done.state.seconds)
    alone = edit_file(done.state.task.source, tmp_path / "alone.mp4", settings)
    assert (tmp_path / "alone.mp4").read_bytes() == alone.path.read_bytes()
    with open(done.state.task.output, "rb") as made:  # noqa: PTH123
        assert made.read() == alone.path.read_bytes()


def test_what_was_uploaded_is_kept_when_uploads_are_cleared(settings, tmp_path):
    """Which is done whenever the page is started, with jobs of the page before waiting."""
    pytest.importorskip("gradio", reason="needs the extra web")
    from evenreel.web import page

    uploads = queue.folder() / "uploads" / "0123"
    uploads.mkdir(parents=True)
    clip = write_clip(uploads / "in.mp4", moving(2, 64, 64))
    job = Queue().submit(clip, settings)
    kept = Path(job.state.task.source)
    assert kept.read_bytes() == clip.read_bytes()
    page.room_for_uploads()
    assert not clip.exists()
    assert kept.is_file()
    assert Queue().submit(kept, settings).name == job.name


def test_jobs_that_wait_can_be_cancelled_and_are_bounded(settings, tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    one = Queue()
    job = one.submit(clip, settings)
    one.cancel(job)
    assert (page_jobs()[0].status, waiting()) == ("cancelled", [])
    monkeypatch.setattr(queue, "MOST", 0)
    with pytest.raises(SettingsError, match="0 jobs wait already; wait for some of them, or cancel some"):
        one.submit(clip, settings)


def test_what_is_no_clip_is_refused(settings, tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"<script>alert(1)</script>")
    with pytest.raises(ClipError):
        Queue().submit(tmp_path / "in.mp4", settings)
    assert page_jobs() == []


@pytest.mark.parametrize(
    "told",
    [
        {},
        {
            "frames": (2, 8),
            "size": (64, 96),
            "host": "vidtome",
            "host_options": {"chunk_size": 2, "merge_global": False},
        },
        {"lora": ("a.safetensors:0.5", "b.safetensors"), "allow_truncated": True, "guidance_scale": 3.5},
        {"control": "c.safetensors", "control_kind": "as-is", "adapter": "mini", "strength": 0.5},
    ],
)
def test_words_say_the_same_as_settings(told):
    import typer

    from evenreel.cli.app import app

    settings = EditSettings.from_json({"prompt": "0: it's | 4: (a star:1.3)", **told})
    command = typer.main.get_command(app).commands["edit"]
    line = shlex.split(shlex.join(["in.mp4", *words(settings)]))
    values = command.make_context("edit", line).params
    for name in ("clip", "output", "download", "quiet", "job"):
        values.pop(name, None)
    values.pop("as_json", None)
    assert EditSettings.from_json(parsed(EditSettings, values)) == settings


def test_the_form_says_what_settings_say(settings):
    assert form.settings_of(list(_filled("a star"))) == EditSettings(prompt="a star")
    back = form.settings_of(form.values_of(settings))
    assert json.dumps(back.to_json()) == json.dumps({**settings.to_json(), "device": "auto"})


def test_the_form_names_models_that_make_maps_for_a_controlnet():
    """As the command line does, with its sentences where one is missing."""
    poses = {"control": "net", "control_kind": "pose", "pose_model": "poses", "person_detector": "people"}
    depth = {"control": "net", "control_kind": "depth", "depth_model": "depths"}
    for told in (poses, depth):
        made = form.settings_of(list(_filled("a star", **told)))
        assert made == EditSettings.from_json({"prompt": "a star", **told})
        assert form.settings_of(form.values_of(made)) == made
    with pytest.raises(SettingsError, match="depth_model makes maps for a control of kind depth"):
        form.settings_of(list(_filled("a star", depth_model="depths")))
    with pytest.raises(SettingsError, match="person_detector goes with pose_model only"):
        form.settings_of(list(_filled("a star", person_detector="people")))


def _filled(prompt, **more):
    return ({**form.start(), "prompt": prompt, **more}).values()


def test_pictures_and_figures_are_those_of_the_clip(settings, tmp_path, monkeypatch):
    """The strip is spread over the whole clip, and figures are what `evaluate` measures."""
    from PIL import Image

    from evenreel.video import load
    from evenreel.workflows.evaluation.evaluate import evaluate

    clip = write_clip(tmp_path / "in.mp4", moving(11, 64, 64))
    job = Queue().submit(clip, replace(settings, frames=(1, None)))
    resume_job(job)
    output = job.state.task.output
    made = pictures.pictures_of(job)
    source, edit = load(clip).frames[1:], load(output).frames
    middle = 5  # of 0, 1, 3, 4, 5, 6, 8, 9
    for path, frames in ((made.before, source), (made.after, edit)):
        with Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture), frames[middle].numpy())
    with Image.open(made.strip) as picture:
        assert picture.width > 8 * 100
    figures = dict(made.figures)
    assert figures["frames"] == "10"
    told = evaluate(clip, output, metrics=["source_psnr", "source_ssim"]).figures
    assert figures["source PSNR"] == f"{told['source_psnr'].value:.3g} dB"
    monkeypatch.setattr(pictures, "MOST_FRAMES", 4)
    os.utime(output)
    assert any(name.endswith(", first 4 frames") for name, _ in pictures.pictures_of(job).figures)
