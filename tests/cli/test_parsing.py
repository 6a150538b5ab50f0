"""Texts of options into settings."""

import pytest

from evenreel.errors import SettingsError
from evenreel.settings.kinds import parse_frames, parse_options, parse_size


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(":", (0, None)), ("3:", (3, None)), (":8", (0, 8)), ("3:8", (3, 8)), (" 3 : 8 ", (3, 8))],
)
def test_frames(text, wanted):
    assert parse_frames("frames", text) == wanted


@pytest.mark.parametrize("text", ["", "3", "3:8:2", "-3:", "a:b", "1.5:2", "٣:٤"])
def test_frames_of_another_form(text):
    with pytest.raises(SettingsError, match="START:END"):
        parse_frames("frames", text)


@pytest.mark.parametrize(("text", "wanted"), [("512", 512), ("768x512", (768, 512)), ("8 X 8", (8, 8))])
def test_size(text, wanted):
    assert parse_size("size", text) == wanted


@pytest.mark.parametrize("text", ["", "x", "512x", "-512", "1e3", "9" * 30])
def test_size_of_another_form(text):
    with pytest.raises(SettingsError, match="WIDTHxHEIGHT"):
        parse_size("size", text)


def test_host_options():
    pairs = ["a=1", "b=0.5", "c=true", "d=False", "e=none", "f=mix-4", "g=x=y", "h="]
    assert parse_options("host_options", pairs) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": False,
        "e": None,
        "f": "mix-4",
        "g": "x=y",
        "h": "",
    }


@pytest.mark.parametrize("pair", ["a", "=1", ""])
def test_host_options_of_another_form(pair):
    with pytest.raises(SettingsError, match="KEY=VALUE"):
        parse_options("host_options", [pair])
