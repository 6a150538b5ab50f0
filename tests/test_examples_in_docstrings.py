"""Examples in the docstrings of the public names do what they show."""

import doctest
import inspect
import shutil

import pytest

import evenreel

NAMES = [
    name
    for name in evenreel.__all__
    if callable(getattr(evenreel, name))
    and not name.endswith("Error")
    and name not in ("EditResult", "EditedClip", "Evaluation", "GeneratedClip", "train_adapter")
]
"""What people call; the rest is what these return or raise, and what takes hours."""


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name, clip_with_sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip_with_sound, "in.mp4")
    thing = getattr(evenreel, name)
    # without the heading the documentation site takes it for a quotation
    assert "Examples:\n    >>>" in (inspect.getdoc(thing) or "")
    (found,) = [
        one for one in doctest.DocTestFinder(recurse=False).find(thing, name, globs={}) if one.examples
    ]
    found.globs |= {"evenreel": evenreel}
    said: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(found, out=said.append)
    assert runner.failures == 0, "".join(said)
