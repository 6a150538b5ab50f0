"""The examples run."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

import evenreel

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, zygote):
    def run(name, *arguments):
        notes = tmp_path / name
        notes.mkdir()
        status = zygote.run(arguments, tmp_path, notes=notes, script=EXAMPLES / name)
        assert status == 0, (notes / "said.txt").read_text()
        return (notes / "printed.txt").read_text()

    return run


def test_a_first_edit_and_its_measurement(run, clip_with_sound, tmp_path):
    assert "6 frames" in run("first_edit.py", clip_with_sound, "a blue star", 1)
    assert evenreel.probe(tmp_path / "edited.mp4").has_audio
    assert "source_psnr" in run("measure.py", clip_with_sound, "edited.mp4")


def test_many_clips_where_one_is_damaged(run, clip_with_sound, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no clip")
    (tmp_path / "clips" / "b.mp4").write_bytes(Path(clip_with_sound).read_bytes())
    assert run("many_clips.py", "clips", "a blue star", 1).strip() == str(Path("edited") / "b.mp4")


def test_a_host_of_ones_own(run):
    assert run("own_host.py", "a blue star", 2).startswith("4 frames, each (3, 128, 128)")


@pytest.fixture
def command(tmp_path, zygote):
    """A program `evenreel` that asks the zygote; its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    asked, answered, program = folder / "asked", folder / "answered", folder / "evenreel"
    os.mkfifo(asked)
    os.mkfifo(answered)
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > "{asked}"\nread status < "{answered}"\nexit "$status"\n'
    )
    program.chmod(0o755)

    def serve():
        while arguments := asked.read_text().splitlines():
            answered.write_text(f"{zygote.run(arguments, tmp_path, notes=folder)}\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield folder
    asked.write_text("")
    thread.join()


def test_an_adapter_is_trained_and_used(command, clip_with_sound, tiny_folder, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.mp4").write_bytes(Path(clip_with_sound).read_bytes())
    (clips / "a.txt").write_text("a red ball rolling over grass")
    here = {**os.environ, "PATH": f"{command}:{os.environ['PATH']}"}
    told = [str(EXAMPLES / "train_adapter.sh"), "clips", str(tiny_folder), "64"]
    told += ["--steps", "1", "--warmup", "0"]
    done = subprocess.run(told, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + (command / "said.txt").read_text()
    assert evenreel.probe(tmp_path / "painted.mp4").width == 96
    assert (tmp_path / "runs" / "adapter" / "adapter.safetensors").is_file()
