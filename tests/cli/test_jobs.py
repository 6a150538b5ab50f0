"""`evenreel jobs`, and what an edit says when it is interrupted."""

import json

import pytest

from evenreel.cli import main
from evenreel.workflows.editing.computing import stages
from video.making import moving, write_clip


@pytest.fixture
def told(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    model = ["--model", str(tiny_folder), "--device", "cpu", "--host", "frame", "--steps", "1"]
    return ["edit", str(clip), "--prompt", "a star", "-o", str(tmp_path / "out.mp4"), *model]


def test_an_interrupted_edit_says_how_it_goes_on_and_does(told, tmp_path, monkeypatch, capsys):
    decode = stages.Stages.decode

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Stages, "decode", interrupted)
    assert main([*told, "-q"]) == 130
    said = capsys.readouterr().err
    assert said == "evenreel: interrupted; the same command, or `evenreel jobs resume`, goes on from here.\n"
    assert main([*told, "-q", "--job", "off"]) == 130
    assert "nothing partial is left" in capsys.readouterr().err

    assert main(["jobs", "list", "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert (job["status"], job["settings"]["prompt"]) == ("stopped", "a star")
    assert main(["jobs", "list"]) == 0
    assert "stopped: edit 1 of 1" in capsys.readouterr().out
    monkeypatch.setattr(stages.Stages, "decode", decode)
    assert main(["jobs", "resume", job["name"][:5], "-q"]) == 0
    assert (tmp_path / "out.mp4").is_file()
    assert main(["jobs", "show", job["name"]]) == 0
    assert "status: done" in capsys.readouterr().out

    assert main(["jobs", "clean", "--all"]) == 0
    assert capsys.readouterr().out.startswith("1 job removed, ")
    assert main(["jobs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert list((tmp_path / "cache" / "inversions").iterdir()) == []


def test_programs_get_lines_of_json(told, tmp_path, capsys):
    assert main([*told, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"event": "progress", "stage": "edit", "done": 1, "total": 1} in lines
    assert lines[-1] == {
        "event": "result",
        "path": str(tmp_path / "out.mp4"),
        "record": str(tmp_path / "out.json"),
    }


@pytest.mark.parametrize("command", ["show", "resume", "clean"])
def test_a_job_that_is_not_there_is_one_sentence(command, told, capsys):
    assert main(["jobs", command, "nothing"]) == 2
    assert capsys.readouterr().err == (
        "evenreel: no job 'nothing'; `evenreel jobs list` shows those there are.\n"
    )
    assert main(["jobs", command, "./nothing"]) == 1
    assert "nothing is not a job; `evenreel jobs list` shows those there are.\n" in capsys.readouterr().err
