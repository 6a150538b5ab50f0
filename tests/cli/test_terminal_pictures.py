"""Pictures in terminals: who gets them, and that what is drawn is the picture."""

import io
import os
import re
import time
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress as Bars

from evenreel.cli import terminal_pictures
from evenreel.cli.console import StageBars, rate
from evenreel.cli.terminal_pictures import Previews, drawn, strip_of, way
from evenreel.progress import silent
from evenreel.video import Clip
from evenreel.workflows.api import save


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "1,2,0"}, None),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"}, None),
        ({}, None),
    ],
)
def test_terminals_that_show_pictures_get_them(environment, found):
    assert way(True, environment) == found
    assert way(False, environment) is None  # a pipe


def seen(characters: str) -> Image.Image:
    """The picture that a terminal would show."""
    if "]1337;" in characters:
        found = re.fullmatch(r"\x1b\]1337;File=[^:]*:([^\x07]*)\x07\r\n", characters)
        assert found is not None
        data = found[1]
    else:
        pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", characters)
        assert [head.split("m=")[-1] for head, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
        assert all(len(piece) <= 4096 for _, piece in pieces)
        data = "".join(piece for _, piece in pieces)
    return Image.open(io.BytesIO(b64decode(data)))


@pytest.mark.parametrize("how", ["kitty", "iterm2"])
def test_what_is_drawn_is_the_picture(how):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)  # larger than one chunk
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    assert np.array_equal(np.asarray(seen(drawn(png.getvalue(), how))), pixels)


def test_a_strip_of_a_result(tmp_path):
    clip = Clip.from_frames(torch.zeros(9, 16, 24, 3, dtype=torch.uint8), 8)
    save(clip, tmp_path / "out.mkv")
    assert seen(strip_of(tmp_path / "out.mkv", 9, "kitty")).width > 6 * 192
    assert strip_of(tmp_path / "absent.mp4", 9, "kitty") == ""


def test_previews_appear_above_the_bars_and_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal_pictures, "SECONDS", 0.0)
    picture, terminal = tmp_path / "preview.jpg", io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)
    Image.new("RGB", (8, 8)).save(picture)
    with Bars(console=console, auto_refresh=False) as bars:
        told = Previews(StageBars(bars), console, "kitty", lambda: picture)
        told("edit", 0, 9)
        told("edit", 1, 9)
        os.utime(picture, ns=(time.time_ns(), time.time_ns() + 10**9))  # another one by now
        told("edit", 2, 9)
        picture.unlink()
        told("edit", 3, 9)
    assert terminal.getvalue().count("a=T,f=100") == 2
    assert "3%" in terminal.getvalue() or "33%" in terminal.getvalue()


def test_no_preview_is_looked_for_when_enough_were_shown(monkeypatch):
    monkeypatch.setattr(terminal_pictures, "SECONDS", 0.0)
    monkeypatch.setattr(terminal_pictures, "MOST", 0)
    Previews(silent, Console(), "kitty", lambda: pytest.fail("looked"))("edit", 0, 2)


def test_rates_are_for_people():
    assert [rate(speed) for speed in (None, 0.0, 0.25, 1.0, 31.4)] == [
        "",
        "",
        "4.0 s each",
        "1.0/s",
        "31.4/s",
    ]
