"""What the command line says of clips: tracks, warnings, outputs that cannot be."""

import json
import logging

import pytest

from evenreel.cli.app import main
from evenreel.cli.console import show_warnings, shown_progress
from video.making import moving, write_clip
from video.test_kept import told
from video.test_sound import two_tracks


def test_info_lists_tracks_and_what_is_carried_over(tmp_path, capsys):
    clip = two_tracks(tmp_path / "a.mkv")
    assert main(["info", str(clip)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "audio 1 aac" in shown
    assert "--sound-track 1 does" in shown
    assert "sound in .webm opus, encoded again at 48000 Hz" in shown
    assert main(["info", str(clip), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [track["used"] for track in values["tracks"]] == [True, False, True]
    assert values["sound_in"][".mp4"] == "aac, copied"


@pytest.mark.parametrize("source", ["s.mp4", "s.mov", "s.mkv"])
def test_info_shows_title_chapters_and_timecode_as_carried_over(tmp_path, capsys, source):
    clip = told(tmp_path / source, {"title": "Moon", "date": "2021-05-06"}, timecode="01:02:03:04")
    assert main(["info", str(clip)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "title Moon" in shown
    assert "chapter 2 1.000 to 2.000 s, Two" in shown
    assert "timecode 01:02:03:04" in shown
    assert "not carried over" not in shown
    assert ("chapters, eng (carried over)" in shown) == (source != "s.mkv")
    assert main(["info", str(clip), "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert kept["metadata"] == {"title": "Moon", "date": "2021-05-06"}
    assert kept["chapters"] == [[0, 1, "One"], [1, 2, "Two"]]
    assert kept["timecode"] == "01:02:03:04"


def test_info_of_a_silent_clip(tmp_path, capsys):
    assert main(["info", str(write_clip(tmp_path / "a.mp4", moving(2)))]) == 0
    assert "sound in" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "words"), [("-", "standard output"), ("a.xyz", "cannot be written")])
def test_outputs_that_cannot_be_are_refused_at_once(tmp_path, monkeypatch, capsys, name, words):
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "a.mp4", moving(2))
    assert main(["edit", str(clip), "--prompt", "p", "-o", name]) != 0
    error = capsys.readouterr().err
    assert words in error
    assert "--out" in error or "choose" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_warnings_look_like_errors_and_quiet_is_quiet(capsys):
    log = logging.getLogger("evenreel.video.write")
    show_warnings()
    show_warnings()
    with shown_progress(False):
        log.warning("no %s here", "sound")
    assert capsys.readouterr().err == "evenreel: warning: no sound here\n"
    with shown_progress(True):
        log.warning("no sound here")
    assert capsys.readouterr().err == ""
