"""Errors name arguments as whoever shows them spells them."""

import ast
import pickle
from pathlib import Path

import evenreel
from evenreel.cli.spelling import spelled
from evenreel.errors import OutputError, SettingsError, argument


def test_python_reads_names_and_the_command_line_options():
    error = SettingsError(f"{argument('host_options')} must be KEY=VALUE, got 'x'.")
    assert str(error) == "host_options must be KEY=VALUE, got 'x'."
    assert error.arguments == ("host_options",)
    assert error.spelled(spelled) == "--host-option must be KEY=VALUE, got 'x'."
    assert OutputError(f"choose another {argument('output')}.").spelled(spelled) == "choose another --out."


def test_settings_of_hosts_and_places_in_files_are_no_options():
    error = SettingsError(f"{argument('vidtome.chunk_size')} is too small.")
    assert error.spelled(spelled) == str(error) == "vidtome.chunk_size is too small."


def test_no_error_shows_how_an_argument_is_marked():
    # a text of several lines of code, one of which lacks its f
    texts = {
        (file.name, node.lineno): node.value
        for file in Path(evenreel.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert len(texts) > 5000
    marked = [place for place, text in texts.items() if "{argument(" in text.replace('f"{argument(', "")]
    assert marked == []


def test_an_error_from_another_process_still_knows_its_arguments():
    error = pickle.loads(pickle.dumps(OutputError(f"choose another {argument('output')}.")))  # noqa: S301
    assert error.arguments == ("output",)
    assert str(error) == "choose another output."


def test_a_path_that_names_an_argument_is_left_alone():
    error = OutputError(f"/clips/output/size lies in the way; choose another {argument('output')}.")
    assert error.spelled(spelled).startswith("/clips/output/size lies")


def test_a_value_of_thousands_of_letters_is_cut_and_the_advice_stays():
    for value in ("x" * 5000, "some words " * 500):
        said = str(SettingsError(f"steps must be a number, got {value!r}; give one."))
        assert len(said) < 2000
        assert said.startswith("steps must be a number, got '")
        assert said.endswith("; give one.")
