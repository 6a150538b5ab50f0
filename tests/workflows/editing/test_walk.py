"""The walk of an edit's settings: few modules are handed the whole of them, and none hands them up a layer."""

import sys
import tomllib
from pathlib import Path

import pytest

from evenreel.settings import EditSettings
from evenreel.workflows.editing.edit import edit_file

MOST = 9
PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
LAYERS = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]


def floor(module):
    """The layer of a module, counted from the top."""
    package = ".".join(module.split(".")[:2])
    return next(number for number, layer in enumerate(LAYERS) if package in layer.split(" | "))


def module_of(frame):
    """The module of a call; the settings' own package is one room."""
    name = frame.f_globals.get("__name__", "")
    return "evenreel.settings" if name.startswith("evenreel.settings.") else name


def is_given_settings(frame):
    code = frame.f_code
    given = [
        frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    ]
    held = getattr(frame.f_locals.get("self"), "__dict__", {}).get("settings")
    return any(isinstance(value, EditSettings) for value in (*given, held))


@pytest.fixture
def walked(clip_with_sound, tiny_folder, tmp_path):
    """(module that calls, module that is called) for all calls that are given the settings of an edit."""
    walked = set()

    def note(frame, event, _arg):
        if event != "call" or not module_of(frame).startswith("evenreel.") or not is_given_settings(frame):
            return
        caller = frame.f_back
        while caller is not None and not module_of(caller).startswith("evenreel."):
            caller = caller.f_back
        walked.add(("" if caller is None else module_of(caller), module_of(frame)))

    settings = EditSettings(prompt="a star", model=str(tiny_folder), steps=1, frames=(0, 2))
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        edit_file(clip_with_sound, tmp_path / "out.mp4", settings)
    finally:
        sys.setprofile(before)
    return walked


def test_few_modules_see_all_settings_and_none_hands_them_up(walked):
    rooms = {called for _, called in walked}
    assert "evenreel.workflows.editing.computing.pipeline" in rooms
    assert len(rooms) <= MOST, "\n".join(sorted(rooms))
    climbs = [(caller, called) for caller, called in walked if caller and floor(called) < floor(caller)]
    assert not climbs
