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
        if entry.name == "edits.py":
            assert text.count(BEFORE) == 1
            text = text.replace(BEFORE, FIELD + BEFORE)
        (package / "settings" / entry.name).write_text(text, encoding="utf-8")
    return folder


RUN = """
import contextlib, io, json, sys
from evenreel.cli import main
ended = []
for told in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(told)
    ended.append((status, out.getvalue(), err.getvalue()))
json.dump(ended, sys.stdout)
"""
"""Command lines one after the other, in one process: starting one takes seconds."""


def test_one_field_is_an_option_everywhere(source, tiny_folder, clip_with_sound, tmp_path):
    def run(*lines):
        here = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "160", "TERM": "dumb"}
        asked = json.dumps([[str(argument) for argument in line] for line in lines])
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            cwd=tmp_path,
            env=here,
            input=asked,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    quick = ("--prompt", "a star", "--model", tiny_folder, "--device", "cpu", "--steps", 1, "--frames", ":2")
    (_, page, _), (_, other_page, _), (refused, _, complaint), (edited, _, said), (repeated, _, _) = run(
        ("edit", "--help"),
        ("generate", "--help"),
        ("edit", clip_with_sound, *quick, "--shimmer", 9),
        ("edit", clip_with_sound, *quick, "--host", "frame", "--shimmer", 2, "-o", "a.mp4"),
        ("repeat", "a.json", "-o", "b.mp4"),
    )
    assert "--shimmer" in page
    assert "How much the water shimmers, in waves per frame." in " ".join(page.split())
    assert "--shimmer" not in other_page
    assert refused == 2
    assert "--shimmer must be from 0 to 3, got 9.0." in complaint
    assert edited == 0, said
    assert repeated == 0
    for record in ("a.json", "b.json"):
        assert json.loads((tmp_path / record).read_text())["settings"]["shimmer"] == 2.0
