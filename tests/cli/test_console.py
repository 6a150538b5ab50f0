"""Progress as lines and as bars."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from evenreel.cli.console import StageBars, StageLines, complain, escape_unprintable


def report(progress) -> None:
    progress("load", 0, None)
    progress("edit", 0, 2)
    progress("edit", 1, 2)
    progress("edit", 2, 2)


def test_lines(capsys):
    report(StageLines())
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "load ..."
    assert second == "edit (0 of 2) ..."
    assert third.startswith("edit done in ")


def test_bars_end_full():
    with Bars(console=Console(file=io.StringIO())) as bars:
        report(StageBars(bars))
        assert [(task.description, task.finished) for task in bars.tasks] == [("load", True), ("edit", True)]


def test_news_of_a_stage_is_no_other_stage(capsys):
    def told(progress):
        progress("train", 0, 2)
        progress("train: loss 0.5", 1, 2)
        progress("train: loss 0.4", 2, 2)

    with Bars(console=Console(file=io.StringIO())) as bars:
        told(StageBars(bars))
        assert [task.description for task in bars.tasks] == ["train: loss 0.4"]
    told(StageLines())
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_complaints_are_one_line_whatever_they_hold(capsys):
    complain("one\ntwo\r\n\tthree")
    assert capsys.readouterr().err == "evenreel: one two three\n"


def test_complaints_survive_an_ascii_terminal(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", stream)
    escape_unprintable()
    complain("snow ☃ \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"evenreel: snow \\u2603 \\udcff\n"


@pytest.mark.parametrize("total", [0, None])
def test_a_stage_without_work_is_no_error(total, capsys):
    StageLines()("empty", 0, total)
    assert "empty" in capsys.readouterr().err
