"""docs/extending.md shows the package that the tests install, and that package imports what plug-ins may."""

import ast
import re
from pathlib import Path

import pytest

from evenreel import plugins

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tests" / "plugin_package"
SHOWN = re.compile(r"<!-- (\S+) -->\n\n```\w+\n(.*?)\n```\n", re.DOTALL)


def shown():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    return dict(SHOWN.findall(page))


def test_every_file_of_the_package_is_shown_as_it_is():
    files = [*PACKAGE.glob("neighbourly/*.py"), PACKAGE / "pyproject.toml"]
    wanted = {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").rstrip()
        for file in files
        if file.name != "__init__.py"
    }
    assert len(wanted) == 6
    assert shown() == wanted


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("neighbourly/*.py")), ids=lambda file: file.name)
def test_a_plug_in_imports_what_plug_ins_may(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imported if (node.module or "").startswith("evenreel")]
    assert {node.module for node in ours} <= {"evenreel.plugins"}
    assert {name.name for node in ours for name in node.names} <= set(plugins.__all__)


def test_all_that_is_promised_is_there():
    assert all(getattr(plugins, name) is not None for name in plugins.__all__)
