"""`evenreel train adapter` from shards to an edit, killed and resumed, alone and on two processes."""

import json
import os
import signal
import time

import pytest
import torch

from closeness import assert_close
from evenreel import load, save
from evenreel.adapters import checkpoint
from evenreel.cli import main
from evenreel.errors import ResourceError
from evenreel.training.states import StateFiles, recorded_step

QUICK = [
    "--warmup",
    "2",
    "--decay",
    "0",
    "--dtype",
    "float32",
    "--learning-rate",
    "1e-3",
    "--accumulation",
    "2",
    "--device",
    "cpu",
    "-q",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    told = [
        "data",
        "build",
        "--world",
        "3",
        "--size",
        "64",
        "--per-clip",
        "2",
        "--control",
        "depth",
        "--flow",
    ]
    assert main([*told, "-j", "1", "-o", str(folder), "-q"]) == 0
    return folder


@pytest.fixture(scope="module", params=["noise", "edits"])
def learn(request):
    return request.param


@pytest.fixture(scope="module")
def command(shards, tiny_folder, learn):
    told = ["train", "adapter", str(shards), "--model", str(tiny_folder), "--recipe", learn, *QUICK]
    return [*told, *(["--edit-steps", "6"] if learn == "edits" else [])]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert main([*command, "--steps", "6", "-o", str(out)]) == 0
    return out


only_one_way = pytest.mark.parametrize(
    "learn", [pytest.param("noise", marks=pytest.mark.slow), "edits"], indirect=True, scope="module"
)
"""The loop is the same for both ways of learning; the other one with -m slow."""


def weights(out):
    state = StateFiles(out, "adapter").newest()
    assert state is not None
    return {name: value for name, value in state.tensors.items() if name.startswith("model.")}


def steps_in_log(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "step" in line]


def test_what_comes_out(whole, learn):
    adapter, origin = checkpoint.load(whole / "adapter.safetensors", base=None)
    assert adapter.settings.lora.scope == {"noise": "down", "edits": "all"}[learn]
    assert (adapter.tokens is None, adapter.settings.in_inversion) == (learn == "edits", learn == "noise")
    assert origin.licence == "Apache-2.0"
    assert origin.notes["steps"] == 6
    lines = steps_in_log(whole)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] > 0 and line["temporal"] > 0 for line in lines)
    assert lines[0]["rate"] == pytest.approx(5e-4)
    assert lines[-1]["rate"] == pytest.approx(1e-3)


def test_edits_are_ended(shards, tiny_folder, tmp_path):
    told = ["train", "adapter", str(shards), "--model", str(tiny_folder), *QUICK, "--edit-steps", "6"]
    assert main([*told, "--steps", "5", "-o", str(tmp_path)]) == 0  # an edit has two steps in the window
    assert checkpoint.load(tmp_path / "adapter.safetensors", base=None)[1].notes["steps"] == 6


@only_one_way
def test_killed_and_resumed_it_is_the_same_bit_for_bit(command, whole, tmp_path, zygote):
    out = tmp_path / "run"
    out.mkdir()
    told = [*command, "--steps", "6", "-o", str(out)]
    child = zygote.begin([*told, "--checkpoint-seconds", "0"], out)
    deadline = time.monotonic() + 120
    while recorded_step(out, "adapter") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    assert zygote.end() == -signal.SIGKILL
    assert main(told) == 0
    ours, theirs = weights(out), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(out.glob("*.partial"))
    assert [line["step"] for line in steps_in_log(out)] == [1, 2, 3, 4, 5, 6]


@only_one_way
def test_two_processes_follow_one(command, whole, tmp_path, zygote):
    out = tmp_path / "run"
    out.mkdir()
    status = zygote.run([*command, "--steps", "6", "-o", str(out)], out, processes=2)
    assert status == 0, (tmp_path / "said.txt").read_text()[-2000:]
    state = StateFiles(out, "adapter").newest()
    assert state is not None
    assert state.record["processes"] == 2
    ours, theirs = weights(out), weights(whole)
    for name in theirs:
        # The optimizer makes as much of a gradient that is rounding alone as of a large one.
        assert_close(ours[name], theirs[name], within=0.03)
    assert len(steps_in_log(out)) == 6


@only_one_way
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], "begun with --seed 0, and 1 is asked for"),
        (["--rank", "8"], "begun with --rank 4, and 8 is asked for"),
        (["--model", "mini"], "begun with --model"),
        (["--shared-tokens", "3"], "--shared-tokens"),
        (["--frame-tokens", "none", "--shared-tokens", "2"], "-tokens"),
        (["--scope", "all,x"], "--scope"),
        (["--window", "0.6:1"], "--window"),
        (["--learning-rate", "0.002"], "--learning-rate 0.001, and 0.002 is asked for"),
    ],
)
def test_another_training_does_not_go_on_in_its_place(command, whole, more, said, capsys):
    assert main([*command, "--steps", "9", *more, "-o", str(whole)]) == 2
    assert said in capsys.readouterr().err


@only_one_way
def test_fewer_steps_than_are_made_are_refused(command, whole, capsys):
    assert main([*command, "--steps", "2", "-o", str(whole)]) == 2
    assert "--steps 2 is less than the 6 that adapter" in capsys.readouterr().err


def test_an_edit_with_it_records_it_and_off_is_off(whole, tiny_folder, clip_with_sound, tmp_path):
    told = ["edit", str(clip_with_sound), "-p", "a star", "--model", str(tiny_folder), "--steps", "2", "-q"]
    told += ["--inversion", "ddim", "--size", "32", "--frames", "0:3"]
    adapter = ["--adapter", str(whole / "adapter.safetensors"), "--adapter-window", "0:1"]
    runs = {
        "plain": [],
        "on": [*adapter, "--adapter-scale", "8"],
        "fused": [*adapter, "--adapter-scale", "8", "--adapter-fused"],
        "off": [*adapter, "--adapter-scale", "0"],
    }
    frames = {}
    for name, more in runs.items():
        assert main([*told, *more, "-o", str(tmp_path / name)]) == 0
        frames[name] = [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
    assert frames["off"] == frames["plain"]
    assert frames["on"] != frames["plain"]
    record = json.loads((tmp_path / "on.json").read_text())
    assert record["adapter"]["scale"] == 8
    assert record["adapter"]["window"] == "0:1"
    assert main(["repeat", str(tmp_path / "on.json"), "-o", str(tmp_path / "again"), "-q"]) == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "again").iterdir())] == frames["on"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--recipe", "noise", "--temporal", "frames"], "frames 3"),
        (["--scope", "nothing.*"], "matches no attention layer"),
        (["--window", "1:0"], "window must be"),
        (["--licence", ""], "licence"),
        (["--recipe", "nothing"], "edits, clips, noise"),
        (["--recipe", "edits", "--edit-guidance", "two"], "LOW:HIGH"),
        (["--recipe", "edits", "--edit-guidance", "4:2"], "LOW:HIGH"),
        (["--recipe", "edits", "--temporal", "frames"], "--temporal has no effect with --recipe edits"),
        (["--recipe", "edits", "--unconditional", "0.2"], "--unconditional has no effect"),
        (["--recipe", "edits", "--shared-noise", "0.2"], "--shared-noise has no effect"),
        (["--recipe", "edits", "--weight-diffusion", "2"], "--weight-diffusion has no effect"),
        (["--recipe", "noise", "--edit-steps", "5"], "--edit-steps has no effect with --recipe noise"),
        (["--recipe", "noise", "--edit-guidance", "2:3"], "--edit-guidance has no effect"),
        (["--recipe", "noise", "--edit-host", "frame"], "--edit-host has no effect"),
        (["--recipe", "edits", "--edit-host", "magic"], "there is no host 'magic'"),
        (["--validate-prompt", "a star"], "is for a validation clip; name one with --validate"),
        (["--validate-every", "3"], "is for a validation clip; name one with --validate"),
    ],
)
def test_what_cannot_be_trained(shards, tiny_folder, more, said, tmp_path, capsys):
    told = ["train", "adapter", str(shards), "--model", str(tiny_folder), *QUICK]
    assert main([*told, "--steps", "3", "-o", str(tmp_path / "run"), *more]) != 0
    assert said in capsys.readouterr().err


class TestValidation:
    """What an edit of the clip would fail of is found before the first step; what fails later loses nothing."""

    @pytest.fixture
    def told(self, shards, tiny_folder, tmp_path):
        quick = [
            "--recipe",
            "noise",
            "--accumulation",
            "1",
            "--steps",
            "2",
            "--warmup",
            "0",
            "--dtype",
            "float32",
        ]
        words = [
            "train",
            "adapter",
            str(shards),
            "--model",
            str(tiny_folder),
            *quick,
            "--device",
            "cpu",
            "-q",
        ]
        return [*words, "--frame-tokens", "none", "-o", str(tmp_path / "run")]

    @pytest.mark.parametrize(
        ("clip", "prompt", "said"),
        [
            ("nowhere.mp4", "a star", "nowhere.mp4"),
            ("whole", "", "--validate-prompt is empty"),
            ("text", "a star", "text"),
            ("whole", "a star " * 1000, "shorten"),
        ],
    )
    def test_it_is_checked_first(self, told, clip, prompt, said, clip_with_sound, tmp_path, capsys):
        (tmp_path / "text").write_text("no clip", encoding="utf-8")
        clip = clip_with_sound if clip == "whole" else tmp_path / clip
        assert main([*told, "--validate", str(clip), "--validate-prompt", prompt]) != 0
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run/log.jsonl").exists()

    def test_fewer_frames_than_are_wanted(self, told, clip_with_sound, tmp_path):
        for count in (1, 3):
            frames = load(clip_with_sound, 0, count)
            save(frames, tmp_path / "clip")
            out = ["-o", str(tmp_path / f"run{count}")]
            looked = [
                "--validate",
                str(tmp_path / "clip"),
                "--validate-prompt",
                "a star",
                "--validate-every",
                "2",
            ]
            assert main([*told, *looked, *out]) == 0
            assert (tmp_path / f"run{count}/validation/step-000002.png").exists()

    def test_one_that_fails_is_said_and_the_training_goes_on(
        self, told, clip_with_sound, tmp_path, monkeypatch, caplog
    ):
        def fail(*_, **__):
            raise ResourceError("there is no memory.")

        monkeypatch.setattr("evenreel.workflows.training.adapter.edit_clip", fail)
        looked = ["--validate", str(clip_with_sound), "--validate-prompt", "a star", "--validate-every", "1"]
        assert main([*told, *looked]) == 0
        assert (tmp_path / "run/adapter.safetensors").exists()
        assert len(steps_in_log(tmp_path / "run")) == 2
