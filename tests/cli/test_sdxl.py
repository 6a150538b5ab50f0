"""Stable Diffusion XL from the command line: an edit, a clip from text, and both again from their records."""

import json

import pytest

from evenreel.cli import main
from evenreel.video import probe
from tiny_xl import save_tiny_xl


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_xl(tmp_path_factory.mktemp("tiny-xl"))


@pytest.fixture
def quick(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ("--prompt", "a (star:1.2)", "--model", str(model), "--steps", "2", "--device", "cpu", "-q")


def test_an_edit_and_again(quick, clip_with_sound, tmp_path, capsys):
    told = ("--source-prompt", "a ball", "--negative-prompt", "blurry", "--frames", "0:3", "--clip-skip", "2")
    assert main(("edit", str(clip_with_sound), *quick, *told, "-o", "out.mp4")) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["settings"]["guidance_scale"] == 5.0
    assert record["working_size"] == [96, 64]
    assert main(("repeat", "out.json", "-q", "-o", "again.mp4")) == 0, capsys.readouterr().err
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_a_clip_from_text_and_again(quick, tmp_path, capsys):
    told = ("--frames", "2", "--size", "80x48", "-o", "out.mp4")
    assert main(("generate", *quick, *told)) == 0, capsys.readouterr().err
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == (80, 48)
    assert main(("repeat", "out.json", "-q", "-o", "again.mp4")) == 0, capsys.readouterr().err
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_a_model_that_changed_is_not_repeated(quick, model, tmp_path, capsys):
    import shutil

    copied = shutil.copytree(model, tmp_path / "copy")
    quick = tuple(str(copied) if word == str(model) else word for word in quick)
    assert main(("generate", *quick, "--frames", "2", "-o", "out.mp4")) == 0, capsys.readouterr().err
    index = copied / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"force_zeros_for_empty_prompt": False}))
    capsys.readouterr()
    assert main(("repeat", "out.json", "-q", "-o", "again.mp4")) != 0
    assert "model" in capsys.readouterr().err
