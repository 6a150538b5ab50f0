"""What documents name is there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"(?:tests|src|scripts|benchmarks|examples|docs)/[A-Za-z0-9_./*-]*[A-Za-z0-9_*]")
ELSEWHERE = {"scripts/create_configs.py"}
"""In other people's repositories."""


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name
)
def test_files_that_a_document_names_are_there(path):
    named = set(NAMED.findall(path.read_text(encoding="utf-8"))) - ELSEWHERE
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


DOTTED = re.compile(r"\bevenreel(?:\.[A-Za-z_]\w*)+")
NOT_MODULES = {"evenreel.adapter"}
"""The name under which a file holds its metadata."""


def is_there(dotted: str) -> bool:
    """Whether a dotted name can be imported, as a module or from one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name
)
def test_modules_that_a_document_names_are_there(path):
    named = set(DOTTED.findall(path.read_text(encoding="utf-8"))) - NOT_MODULES
    assert [name for name in sorted(named) if not is_there(name)] == []


BESIDE = re.compile(r"\.\./shared|parents\[\d\] / \"shared\"|[\"']shared/")


def test_nothing_speaks_of_a_folder_that_a_clone_does_not_have():
    # CONTRIBUTING names a variable for what lies elsewhere
    told = [
        path
        for folder in ("src", "tests", "docs", "benchmarks", "examples", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", "") and path.is_file() and path != Path(__file__)
    ]
    assert len(told) > 600
    speaking = [
        path for path in (*told, *ROOT.glob("*.md")) if BESIDE.search(path.read_text(encoding="utf-8"))
    ]
    assert speaking == []
