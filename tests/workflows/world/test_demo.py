"""The demo, with a tiny model in place of the packaged one: everything is made, nothing looks like anything."""

import json

import numpy as np
import pytest
from PIL import Image

from evenreel.errors import OutputError
from evenreel.metrics.outline import outline_iou
from evenreel.metrics.segmenter import packaged_segmenter
from evenreel.video import load, probe, to_model
from evenreel.workflows.world.demo import SAMPLE_RATE, SCENE, melody, run_demo


def test_everything_is_made(tiny_folder, tmp_path):
    stages = []
    result = run_demo(
        tmp_path / "new" / "demo",
        frames=3,
        steps=1,
        model=str(tiny_folder),
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert (result.source_prompt, result.prompt) == (
        "a red circle rolling over grass",
        "a blue star rolling over snow",
    )
    for path in (result.source, result.edit):
        assert probe(path).has_audio
        assert probe(path).frame_count == 3
    assert (tmp_path / "new" / "demo" / "edit.json").is_file()
    with Image.open(result.strip) as strip:
        assert strip.width > 3 * 128
    assert {figure.name for figure in result.figures} >= {"PSNR of the edit", "invert", "peak memory"}
    assert list(dict.fromkeys(stages)) == [
        "render the source",
        "load model",
        "read and encode",
        "compare prompts",
        "invert",
        "edit",
        "decode and write",
        "measure",
    ]


@pytest.mark.parametrize("host", ["auto", "vid2vid_zero"])
def test_it_edits_as_the_defaults_of_an_edit_do(host, tiny_folder, tmp_path):
    run_demo(tmp_path, host=host, frames=2, steps=1, model=str(tiny_folder))
    record = json.loads((tmp_path / "edit.json").read_text())
    assert record["settings"]["host_options"] == {}
    assert record["host"]["name"] == ("vidtome" if host == "auto" else host), (
        "no motion modules for this model"
    )


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        run_demo(tmp_path / "file" / "demo")


def test_the_object_stays_in_view():
    for frame in (0.0, 15.0):
        x, y = SCENE.main.motion.position(frame)
        assert max(abs(x), abs(y)) + SCENE.main.radius < 1


def test_the_melody_is_soft():
    sound = melody(2.0)
    assert len(sound) == 2 * SAMPLE_RATE
    assert 0.05 < np.abs(sound).max() < 0.3
    assert np.abs(np.diff(sound)).max() < 0.05, "a click between notes"


def test_the_packaged_model_makes_the_edit(tmp_path):
    result = run_demo(tmp_path, frames=2, steps=5)
    figures = {figure.name: figure.value for figure in result.figures}
    before, after = (float(figures[f"PSNR of the {what}"].split()[0]) for what in ("source", "edit"))
    assert after > before + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_the_star_is_a_star_in_every_frame(seed, tmp_path):
    """With the packaged model and the defaults of an edit: an arm more or less leaves .8 of the outline or below."""
    edited = run_demo(tmp_path, seed=seed).edit
    masks = packaged_segmenter().masks(to_model(load(edited).frames, (128, 128)))
    outlines = outline_iou(masks, "star")
    assert len(outlines) == 16
    assert outlines.min() > 0.88, outlines
