"""A new option of edits is one field in one file: the help page, the record and `repeat` follow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import evenreel

PACKAGE = Path(evenreel.__file__).parent
BEFORE = "    allow_truncated: Annotated[bool, Option(FRAMES)] = False\n"
FIELD = '''    shimmer: Annotated[float, Range(0.0, 3.0), Option(FRAMES)] = 1.5
    """How much the water shimmers, in waves per frame."""
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The package with one more field in one file; everything else is where it was."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "pyproject.toml").symlink_to(Path(__file__).parents[1] / "pyproject.toml")
    folder = checkout / "src"
    package = folder / "evenreel"
    (package / "settings").mkdir(parents=True)
    for entry in PACKAGE.iterdir():
        if entry.name not in ("settings", "__pycache__"):
            (package / entry.name).symlink_to(entry)
    for entry in (PACKAGE / "settings").glob("*.py"):
        text = entry.read_text(encoding="utf-8")
        if entry.name == "runs.py":
            assert text.count(BEFORE) == 1
            text = text.replace(BEFORE, FIELD + BEFORE)
        (package / "settings" / entry.name).write_text(text, encoding="utf-8")
    return folder


def test_one_field_is_an_option_everywhere(source, tiny_folder, clip_with_sound, tmp_path):
    def run(*arguments):
        told = [sys.executable, "-m", "evenreel", *map(str, arguments)]
        here = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "160", "TERM": "dumb"}
        return subprocess.run(told, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)

    page = " ".join(run("edit", "--help").stdout.split())
    assert "--shimmer" in page
    assert "How much the water shimmers, in waves per frame." in page
    assert "--shimmer" not in run("generate", "--help").stdout

    quick = ("--prompt", "a star", "--model", tiny_folder, "--device", "cpu", "--steps", 1, "--frames", ":2")
    refused = run("edit", clip_with_sound, *quick, "--shimmer", 9)
    assert refused.returncode == 2
    assert "--shimmer must be from 0 to 3, got 9.0." in refused.stderr

    done = run("edit", clip_with_sound, *quick, "--host", "frame", "--shimmer", 2, "-o", "a.mp4")
    assert done.returncode == 0, done.stderr
    assert run("repeat", "a.json", "-o", "b.mp4").returncode == 0
    for record in ("a.json", "b.json"):
        assert json.loads((tmp_path / record).read_text())["settings"]["shimmer"] == 2.0
