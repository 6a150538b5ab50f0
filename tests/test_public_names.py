"""The public face: names that programs rely on, and an import that costs nothing."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import evenreel
from evenreel import plugins
from evenreel.theory.statements import STATEMENTS

PACKAGE = Path(evenreel.__file__).parent

PUBLIC = {
    "AdapterUse",
    "Clip",
    "ClipError",
    "ControlUse",
    "DataError",
    "EditResult",
    "EditSettings",
    "EditedClip",
    "Evaluation",
    "Evaluator",
    "EvenreelError",
    "GenerateSettings",
    "GeneratedClip",
    "OutputError",
    "PluginError",
    "RegionUse",
    "ResourceError",
    "SettingsError",
    "VideoInfo",
    "WeightsError",
    "__version__",
    "edit",
    "edit_file",
    "evaluate",
    "generate",
    "generate_file",
    "load",
    "load_backbone",
    "probe",
    "save",
    "train_adapter",
}
"""A name may be added here; one that is taken away breaks somebody's program."""


VERBS = """
Add Append Ask Average Begin Blur Bring Build Change Check Close Collapse Collect Colour Compare Compute Convert Count
Cut Decode Denoise Descend Describe Do Draw Drop Edit Embed Encode End Estimate Filter Find Fit Flush Follow Force
Forget Free Give Go Hash Hear Hold Inject Install Invert Join Keep Lay Leave Let List Listen Load Log Look Make Map
Mark Measure Merge Mix Move Multiply Name Note Open Order Pack Pass Predict Prepare Print Put Raise Read Record Refuse
Remember Remove Render Replace Return Run Sample Save Say Scale See Serve Set Show Start Step Stop Store Take Tell
Time Train Translate Turn Undo Update Use Verify Work Write Yield
"""
"""With one of which the documentation of a function begins; another verb is added here."""
VALUES = {"property", "cached_property", "loaded_once"}
"""Decorators of methods that are read like fields; they may say what they are."""


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


def functions(node, prefix=""):
    """Public functions and methods below a node, by name, with the names of their decorators."""
    for one in node.body:
        if getattr(one, "name", "_").startswith("_"):
            continue
        if isinstance(one, ast.ClassDef):
            yield from functions(one, f"{prefix}{one.name}.")
        elif isinstance(one, ast.FunctionDef):
            decorators = (getattr(each, "func", each) for each in one.decorator_list)
            yield f"{prefix}{one.name}", one, {ast.unparse(each).rpartition(".")[2] for each in decorators}


def test_what_a_function_does_begins_with_a_verb():
    # printed as they are, where a statement is told: they state a case
    cases = {statement.counterexample.__name__ for statement in STATEMENTS if statement.counterexample}
    wrong, seen = [], 0
    for file in PACKAGE.rglob("*.py"):
        for name, function, decorators in functions(ast.parse(file.read_text(encoding="utf-8"))):
            if decorators & (VALUES | {"overload"}) or (name in cases and file.parent.name == "theory"):
                continue
            seen += 1
            word = (ast.get_docstring(function) or "").partition(" ")[0].strip(".,:")
            if word not in VERBS.split():
                wrong.append(f"{file.relative_to(PACKAGE)}: {name}: {word or 'nothing'}")
    assert seen > 1400
    assert not wrong, "\n".join(wrong)


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
