"""`evenreel data` as a person meets it."""

import json
import re

import pytest

from evenreel.cli import main
from training.making import clips_folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `evenreel data ARGUMENTS` in an empty folder, on one process; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def start(*arguments: str) -> tuple[int, str, str]:
        status = main(("data", *arguments))
        return status, *capsys.readouterr()

    return start


def assert_one_sentence(done: tuple[int, str, str], status: int, words: str) -> None:
    lines = [line for line in done[2].splitlines() if line.startswith("evenreel: ")]
    assert done[0] == status, done[2]
    assert len(lines) == 1, done[2]
    assert re.search(words, lines[0]), lines[0]


def test_build_check_and_build_again(run, tmp_path):
    clips_folder(tmp_path / "clips", count=2)
    (tmp_path / "clips" / "[red]no.mp4").write_text("no video")
    build = ("build", "clips", "-o", "data", "--size", "32", "--per-clip", "3", "-j", "1")
    status, said, steps = run(*build)
    assert status == 0
    assert "data: 6 groups of 2 frames from 2 clips in 1 shards" in said
    assert "left out: [red]no.mp4: it has no captions" in said
    assert re.search(r"^build done in [\d.]+ s$", steps, re.MULTILINE)
    status, said, _ = run("check", "data", "-j", "1")
    assert status == 0
    assert re.search(r"samples that are whole +6 +of 6", said)
    assert re.search(r"clips left out when built +1 ", said)
    assert run(*build, "--quiet") == (0, "", "")
    assert_one_sentence(run(*build, "--gap", "1"), 2, "gap was 2 and is now 1")
    assert_one_sentence(run(*build, "--strict"), 1, "no.mp4 cannot be used: it has no captions")


def test_frames_get_the_size_of_the_model_that_they_are_for(run, tmp_path, tiny_folder):
    build = ("build", "--world", "1", "--scene-frames", "9", "-j", "1")
    for model, side in (("mini", 128), (str(tiny_folder), 64)):
        assert run(*build, "--for", model, "-o", f"data{side}")[0] == 0
        settings = json.loads((tmp_path / f"data{side}" / "manifest.json").read_text())["settings"]
        assert settings["size"] == [side, side]
    both = run(*build, "--for", "mini", "--size", "64", "-o", "both")
    assert_one_sentence(both, 2, "--for and --size both say how large frames are; leave one of them out")
    assert_one_sentence(run(*build, "--for", "nosuch", "-o", "none"), 1, "nosuch")


def test_a_world(run, tmp_path):
    status, said, _ = run(
        "build", "--world", "2", "--first-seed", "5", "--objects", "2", "--scene-frames", "9", "--frames", "3",
        "--size", "48x32", "--control", "depth", "--flow", "--variations", "1", "-o", "world", "-j", "1",
    )  # fmt: skip
    assert status == 0
    assert "10 groups of 3 frames from 2 clips" in said
    settings = json.loads((tmp_path / "world" / "manifest.json").read_text())["settings"]
    assert (settings["size"], settings["control"], settings["flow"]) == ([48, 32], ["depth"], True)
    assert run("check", "world", "-j", "1")[0] == 0


def test_damage_is_status_1(run, tmp_path):
    run("build", "--world", "1", "--size", "32", "-o", "world", "-j", "1")
    path = tmp_path / "world" / "shard-00000.tar"
    data = bytearray(path.read_bytes())
    data[900] ^= 1
    path.write_bytes(data)
    done = run("check", "world", "-j", "1")
    assert_one_sentence(done, 1, r"shard-00000\.tar")
    assert re.search(r"problems +[1-9]", done[1])


def test_remarks_fail_only_when_strict(run, tmp_path):
    clips_folder(tmp_path / "clips", count=2)
    for image in (tmp_path / "clips" / "clip0").iterdir():
        image.write_bytes((tmp_path / "clips" / "clip1" / image.name).read_bytes())
    run("build", "clips", "-o", "data", "--size", "32", "--per-clip", "3", "-j", "1")
    status, said, _ = run("check", "data", "-j", "1")
    assert status == 0
    assert re.search(r"repeated groups +3 +worth a look", said)
    assert_one_sentence(run("check", "data", "--strict", "-j", "1"), 1, "3 repetitions")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build"], "--out"),
        (["build", "-o", "x"], "SOURCE of clips or --world"),
        (["build", "clips", "--world", "3", "-o", "x"], "one of the two"),
        (["build", "clips", "--objects", "2", "-o", "x"], "--objects goes with --world only"),
        (
            ["build", "--world", "3", "--split", "train", "-o", "x"],
            "--split goes with a SOURCE of clips only",
        ),
        (["build", "--world", "0", "-o", "x"], "--world must be from 1"),
        (["build", "--world", "1", "--frames", "1", "-o", "x"], "frames must be from 2"),
        (["build", "--world", "1", "--size", "big", "-o", "x"], "--size must be"),
        (
            ["build", "--world", "1", "--control", "scribble", "-o", "x"],
            "--control must be a list, each one of canny, depth, pose",
        ),
        (["build", "--world", "1", "-j", "0", "-o", "x"], "workers must be from 1"),
        (["check"], "FOLDER"),
    ],
)
def test_wrong_usage_is_status_2(arguments, words, run, tmp_path):
    assert_one_sentence(run(*arguments), 2, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "nowhere", "-o", "x"], "nowhere is not there"),
        (["build", ".", "-o", "x"], "holds no clips"),
        (["check", "nowhere"], "give a folder made by `evenreel data build`"),
    ],
)
def test_sources_that_are_not_there_are_status_1(arguments, words, run, tmp_path):
    assert_one_sentence(run(*arguments), 1, words)
    assert list(tmp_path.iterdir()) == []
