"""What documents name is there."""

import re
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
