"""The house as rooms and arrows: no circle at any depth, and few arrows between the rooms of the use cases."""

import ast
import re
import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import evenreel

PACKAGE = Path(evenreel.__file__).parent
ROOT = Path(__file__).parents[1]


def named(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="module")
def arrows():
    """By module, the modules that it imports, anywhere in its file and for types too."""
    files = {named(file): file for file in PACKAGE.rglob("*.py")}
    found = {}
    for module, file in files.items():
        told = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                told |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
            elif isinstance(node, ast.Import):
                told |= {name.name for name in node.names}
        # a package that is named for one of its modules is no arrow of its own
        inner = {name for name in told if any(other.startswith(f"{name}.") for other in told & files.keys())}
        found[module] = (told & files.keys()) - inner - {module}
    return found


def between(arrows, room):
    """Arrows between rooms, where `room` says in which a module is, or None."""
    found = defaultdict(set)
    for module, imported in arrows.items():
        for other in imported:
            pair = room(module), room(other)
            if None not in pair and pair[0] != pair[1]:
                found[pair[0]].add(pair[1])
    return found


@pytest.mark.parametrize("depth", [2, 3, 4], ids=["packages", "rooms", "modules"])
def test_there_is_no_circle(arrows, depth):
    def room(module):
        parts = module.split(".")
        return ".".join(parts[:depth]) if len(parts) >= depth else None

    try:
        TopologicalSorter(between(arrows, room)).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_seven_rooms_and_four_arrows_inside_the_use_cases(arrows):
    workflows = PACKAGE / "workflows"
    rooms = {folder.name for folder in workflows.iterdir() if (folder / "__init__.py").exists()}

    def room(module):
        parts = module.split(".")
        return parts[2] if parts[1:2] == ["workflows"] and parts[2:3] and parts[2] in rooms else None

    assert rooms == {"batch", "editing", "evaluation", "inspect", "theory", "training", "world"}
    wanted = ("batch", "evaluation", "training", "world")
    assert between(arrows, room) == {name: {"editing"} for name in wanted}


def test_the_document_has_the_floors_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    checked = [{name.removeprefix("evenreel.") for name in row.split(" | ")} for row in contract["layers"]]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.search(r"siblings that must not meet\).*?\n\n(.*?)\n\n", page, re.DOTALL)
    assert drawn is not None
    rows = [re.split(r"\s{2,}|\s·", line.strip())[0] for line in drawn[1].splitlines()]
    told = {name for row in rows for name in row.split(" | ")}
    assert told == set().union(*checked)
    floor = {name: number for number, names in enumerate(checked) for name in names}
    order = [floor[row.split(" | ")[0]] for row in rows]
    assert order == sorted(order)
