"""What settings name is made by their commands: those that stand in the repository, and others."""

from pathlib import Path

import pytest
import typer

from evenreel.cli.app import app
from evenreel.errors import SettingsError
from evenreel.study.run.making import make_missing, words_of
from evenreel.study.settings import StudySettings, read_file

STUDIES = sorted((Path(__file__).parents[3] / "docs" / "study").glob("**/study.toml"))


def parsed(words):
    """The parameters of a command, as the command line understands them."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command.make_context(command.name, list(words)).params


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_all_that_settings_name_is_made_by_a_command_in_them(path):
    settings = read_file(path)
    made, data = set(), set()
    for command in settings.made_by:
        words = words_of(command)
        told = parsed(words)
        if words[0] == "data":
            data.add(str(told["out"]))
            continue
        assert str(told["data"]) in data, f"{command}: its data is made before"
        made |= {f"{told['out']}/{name}" for name in ("adapter.safetensors", "log.jsonl")}
    assert set(settings.files) <= made


def test_they_are_run_in_the_folder_of_the_settings(tmp_path):
    commands = ("data build --world 2 --size 32 --frames 3 -o data", "evenreel data build --world 2 -o data")
    settings = StudySettings(adapter="data/manifest.json", made_by=commands[:1], folder=tmp_path)
    make_missing(settings)
    assert (tmp_path / "data" / "manifest.json").is_file()
    (tmp_path / "data" / "manifest.json").write_text("kept")
    make_missing(settings)  # what is named is there
    assert (tmp_path / "data" / "manifest.json").read_text() == "kept"
    assert words_of(commands[1])[:2] == ["data", "build"]


def test_other_commands_and_those_that_fail_are_a_sentence(tmp_path):
    for wrong in ("edit a.mp4", "data check data", "rm -r /", "data 'build", ""):
        with pytest.raises(SettingsError, match="made_by"):
            make_missing(StudySettings(adapter="a", made_by=(wrong,), folder=tmp_path))
    told = StudySettings(adapter="a", made_by=("data build nowhere -o data",), folder=tmp_path)
    with pytest.raises(SettingsError, match=r"of the study's settings failed: .*nowhere"):
        make_missing(told)
