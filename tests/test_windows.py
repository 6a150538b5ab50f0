"""Every command that writes, on a system that behaves like Windows (see windows.py), and what that stand-in refuses."""

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import windows
from evenreel.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in looks into /proc")


@pytest.fixture
def system(monkeypatch):
    windows.behave(monkeypatch)


@pytest.fixture
def run(system, monkeypatch):
    """Runs a command that must succeed; returns what it printed."""

    def start(*arguments: object) -> str:
        with monkeypatch.context() as patched:
            for stream in ("stdout", "stderr"):
                patched.setattr(sys, stream, windows.terminal())
            status = main([str(argument) for argument in arguments])
            sys.stdout.flush()
            sys.stderr.flush()
            said, complaint = (
                stream.buffer.getvalue().decode("cp1252") for stream in (sys.stdout, sys.stderr)
            )
        assert status == 0, complaint
        return said

    return start


def assert_plain(folder: Path) -> None:
    """No text holds CR, and nothing half written is left."""
    for path in folder.rglob("*"):
        assert not path.name.startswith(".evenreel-")
        if path.suffix in (".json", ".jsonl", ".html", ".md"):
            assert b"\r" not in path.read_bytes(), path


@pytest.mark.usefixtures("system")
class TestTheStandIn:
    """It refuses what Windows refuses."""

    def test_folders_cannot_be_opened(self, tmp_path):
        with pytest.raises(PermissionError):
            os.open(tmp_path, os.O_RDONLY)

    def test_only_handles_that_may_write_can_be_flushed(self, tmp_path):
        path = tmp_path / "a"
        path.touch()
        with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(file.fileno())
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    def test_open_files_cannot_be_replaced(self, tmp_path):
        one, other = tmp_path / "one", tmp_path / "other"
        one.touch()
        other.touch()
        with other.open("rb"):
            for change in (lambda: one.replace(other), lambda: other.replace(one), other.unlink):
                with pytest.raises(PermissionError):
                    change()
        one.replace(other)

    def test_tensors_of_safetensors_keep_their_file(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_file({"a": torch.zeros(8)}, path)
        with safe_open(path, "pt") as file:
            kept = file.get_tensor("a")
        with pytest.raises(PermissionError):
            path.unlink()
        del kept
        path.unlink()


def test_edits_and_repeats(run, tiny_folder, clip_with_sound, tmp_path):
    quick = ("--model", tiny_folder, "--size", "64", "--steps", "2", "--frames", "0:2")
    for out in ("edit.mp4", "edit"):
        for _ in range(2):  # the second time in place of the first
            said = run("edit", clip_with_sound, "-p", "snow ☃", *quick, "-o", tmp_path / out)
        assert out in said
    run("repeat", tmp_path / "edit.json")
    assert_plain(tmp_path)


def test_clips_from_text(run, tiny_folder, tmp_path):
    quick = ("--model", tiny_folder, "--size", "64", "--steps", "2", "--frames", "2")
    for _ in range(2):
        run("generate", "-p", "snow", *quick, "-o", tmp_path / "new.mp4")
    assert_plain(tmp_path)


def test_figures_of_names_that_the_terminal_cannot_show(run, clip_with_sound, tmp_path):
    other = tmp_path / "snow ☃.mp4"
    other.write_bytes(clip_with_sound.read_bytes())
    assert "snow \\u2603.mp4" in run("evaluate", clip_with_sound, other, "--metric", "source_psnr")


def test_data(run, tmp_path):
    build = ("data", "build", "--world", 3, "--size", 64, "--frames", 4, "--per-clip", 1, "-j", 1)
    for _ in range(2):
        run(*build, "-o", tmp_path / "data")
    run("data", "check", tmp_path / "data")
    assert_plain(tmp_path)


def test_a_study(run, tmp_path, monkeypatch):
    # figures take seconds an item, and are of no concern here
    monkeypatch.setattr("evenreel.study.run.subjects.measured", lambda *_: {"asked": 1.0, "kept": 1.0})
    settings = tmp_path / "study.toml"
    settings.write_text(
        'experiments = ["controls"]\nclips = 1\nframes = 2\nsteps = 1\nseeds = [0]\n', encoding="utf-8"
    )
    for _ in range(2):  # what stands in its log is taken up, and the report written over
        run("study", "run", settings, "--out", tmp_path / "study", "--processes", 1, "-q")
        run("study", "report", "--out", tmp_path / "study")
    assert_plain(tmp_path)


def test_trainings_that_go_on(run, tiny_folder, tmp_path):
    """States and logs are replaced while they were read a moment before."""
    build = ("data", "build", "--world", 2, "--size", 64, "--frames", 3, "--per-clip", 1, "-j", 1, "-q")
    run(*build, "-o", tmp_path / "data")
    out = tmp_path / "run"
    quick = (
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--warmup",
        0,
        "--accumulation",
        1,
    )
    told = ("train", "adapter", tmp_path / "data", "-o", out, "--recipe", "noise", "--decay", 0, *quick)
    for steps in (2, 4, 6):
        said = run(*told, "--checkpoint-seconds", 0, "--steps", steps)
        assert "adapter.safetensors" in said
    run("adapter", "info", out / "adapter.safetensors")
    assert_plain(out)
