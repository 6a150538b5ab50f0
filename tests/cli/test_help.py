"""Every help text can be read by itself, without the line above it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evenreel.backbones import mini
from evenreel.backbones.base import Guidance
from evenreel.backbones.sdxl.model import StableDiffusionXL
from evenreel.cli.app import app
from evenreel.cli.outline import LINES, OUTLINE
from evenreel.settings import option_groups


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {inner}")


COMMANDS = dict(commands(typer.main.get_command(app), "evenreel"))
LEANS = r"(Of|Under|Between|After|With|Only|Where it|What it|By|In|Another|These|This|It|They) "
"""How a line begins that needs another one, or a name, to be understood."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_each_option_what_it_is(name):
    command = COMMANDS[name]
    first = (command.help or "").strip().split("\n\n")[0]
    assert re.match("[A-Z][a-z]+ ", first), first
    assert first.endswith("."), first
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        if getattr(parameter, "hidden", False) or parameter.name in ("install_completion", "show_completion"):
            continue
        assert text, f"{name} {parameter.opts}"
        assert re.match("[A-Z`]", text), text
        assert text.endswith("."), text
        assert len(text.split()) > 1, text
        assert not re.match(LEANS + "|(A|An|The) (?!.json)", text), text
        assert not re.search(r"\b(is no|are no)\b", text), text


@pytest.mark.parametrize(("name", "extra"), [("web", "evenreel[web]"), ("batch", "evenreel[ray]")])
def test_the_extra_that_a_command_needs_is_shown(name, extra):
    # what stands in brackets is markup to the printer unless it is escaped
    page = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert f"pip install '{extra}'" in " ".join(page.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_is_not_shown_as_taking_a_value(name):
    page = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert "--help" in page.output
    assert "<bool>" not in page.output


def test_choices_stand_beside_the_option_that_takes_them():
    page = CliRunner().invoke(app, ["edit", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for option, choices in (("--keep", "auto|off"), ("--prompt-syntax", "weights|plain")):
        assert re.search(rf"{option} +{re.escape(choices)} ", page)


def test_the_outline_is_what_the_commands_say_of_themselves():
    said = {name: COMMANDS[f"evenreel {name}"].help.split("\n\n")[0] for name in LINES}
    assert {name: " ".join(line.split()) for name, line in said.items()} == LINES


def test_the_list_of_commands_waits_for_none_of_them():
    code = (
        "import sys, evenreel.cli; evenreel.cli.main(['--help']); "
        f"print([name for name in {list(OUTLINE)} if f'evenreel.cli.{{name}}' in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    assert all(name in ran.stdout for name in LINES)


def test_a_command_that_is_misspelt_is_answered_with_its_name():
    assert "Did you mean 'edit'" in CliRunner().invoke(app, ["edti"]).output


@pytest.mark.parametrize(
    ("typed", "offered"), [("evenreel ed", "edit"), ("evenreel edit --strengt", "--strength")]
)
def test_a_shell_completes_commands_and_options(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    asked = CliRunner().invoke(
        app, prog_name="evenreel", env={"_EVENREEL_COMPLETE": "complete_bash", **words}
    )
    assert asked.output.split() == [offered]


def test_defaults_that_the_model_decides_are_the_models_own():
    guidance = mini.load(device="cpu").guidance
    quick = guidance.quick_edit
    assert quick is not None
    usual, xl = Guidance(), StableDiffusionXL.guidance
    assert usual.edit == usual.generate
    assert xl.edit == xl.generate
    assert (
        f"{usual.edit:g}; of SD-XL {xl.edit:g}; of mini {guidance.edit:g}, in clips from text {guidance.generate:g}"
    ) == option_groups.GUIDANCE
    start, end = quick.guidance_interval
    assert f"0:1; of mini in edits by the defaults {start:g}:{end:g}" == option_groups.INTERVAL
    assert (
        f"{option_groups.EDIT_STEPS}; of mini in edits by the defaults {quick.steps}" == option_groups.STEPS
    )
