"""The public face: names that programs rely on, and an import that costs nothing."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import evenreel
from evenreel import plugins

PUBLIC = {
    "AdapterUse",
    "Clip",
    "ClipError",
    "ControlUse",
    "DataError",
    "EditResult",
    "EditSettings",
    "EditedClip",
    "EvenreelError",
    "GenerateSettings",
    "GeneratedClip",
    "OutputError",
    "PluginError",
    "ResourceError",
    "SettingsError",
    "VideoInfo",
    "WeightsError",
    "__version__",
    "edit",
    "edit_file",
    "generate",
    "generate_file",
    "load",
    "load_backbone",
    "probe",
    "save",
}
"""A name may be added here; one that is taken away breaks somebody's program."""


NO_VERBS = {
    "A",
    "An",
    "As",
    "Away",
    "Embeddings",
    "Everything",
    "For",
    "Frames",
    "Guided",
    "Hidden",
    "How",
    "Latents",
    "Name",
    "No",
    "Noise",
    "Of",
    "Processor",
    "Processors",
    "Share",
    "The",
    "These",
    "What",
    "Where",
    "Which",
    "Whether",
    "Who",
    "With",
}
"""First words of lines that say what a thing is, where what it does was wanted."""


def test_the_names_are_those_promised():
    assert set(evenreel.__all__) >= PUBLIC
    assert set(dir(evenreel)) == set(evenreel.__all__)


def test_every_name_is_there():
    for name in PUBLIC:
        assert getattr(evenreel, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(evenreel, "no_such_name")


def test_neither_the_package_nor_its_command_line_imports_torch():
    code = "import sys, evenreel, evenreel.cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def said_by(name, thing):
    """Functions and methods, and the first word of their documentation."""
    functions = {name: thing} if inspect.isfunction(thing) else {}
    if inspect.isclass(thing) or inspect.ismodule(thing):
        home = thing.__name__ if inspect.ismodule(thing) else thing.__module__
        functions = {
            f"{name}.{inner}": one
            for inner, one in vars(thing).items()
            if inspect.isfunction(one) and one.__module__ == home and not inner.startswith("_")
        }
    return {name: (inspect.getdoc(one) or "").split(maxsplit=1)[:1] for name, one in functions.items()}


@pytest.mark.parametrize("name", [*evenreel.__all__, *(f"plugins.{name}" for name in plugins.__all__)])
def test_what_a_function_does_begins_with_a_verb(name):
    thing = getattr(plugins if name.startswith("plugins.") else evenreel, name.rpartition(".")[2])
    for function, word in said_by(name, thing).items():
        assert word, function
        assert word[0] not in NO_VERBS, f"{function}: {word[0]}"


ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
API = Path(__file__).parents[1] / "docs" / "api.md"


def pointed_at(entry):
    """What an entry of the reference names, by its whole path."""
    home, _, name = entry.rpartition(".")
    return getattr(import_module(home), name)


def test_the_reference_has_an_entry_for_every_name():
    entries = ENTRY.findall(API.read_text(encoding="utf-8"))
    assert len(entries) == len(set(entries))
    shown = [pointed_at(entry) for entry in entries]
    for home in (evenreel, plugins):
        for name in home.__all__:
            thing = getattr(home, name)
            assert name == "__version__" or any(one is thing for one in shown), f"{home.__name__}.{name}"
    # a module of a function's name would be shown in its place
    named = dict(zip(entries, shown, strict=True))
    assert not inspect.ismodule(named["evenreel.video.probe.probe"])
