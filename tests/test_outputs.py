"""Results of one job: together or not at all, one job at a time, and nothing left of jobs that were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evenreel.errors import OutputError
from evenreel.files import Aside, maker, sweep
from evenreel.outputs import Outputs, locked, signals_held


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def job(target: Path, text: str, *, fail: BaseException | None = None) -> Outputs:
    """Write a result and what lies beside it."""
    with Outputs(target) as outputs:
        for path, name in ((target, None), (target.with_suffix(".json"), lambda t: t.with_suffix(".json"))):
            aside = Aside(path)
            outputs.add(aside, name)
            aside.path.write_text(text)
        if fail is not None:
            raise fail
    return outputs


def test_all_parts_appear_or_none(tmp_path):
    assert job(tmp_path / "a.mp4", "one").paths == [tmp_path / "a.mp4", tmp_path / "a.json"]
    assert names(tmp_path) == ["a.json", "a.mp4"]
    for failure in (ValueError(), KeyboardInterrupt()):
        with pytest.raises(type(failure)):
            job(tmp_path / "a.mp4", "two", fail=failure)
        assert names(tmp_path) == ["a.json", "a.mp4"]
        assert (tmp_path / "a.mp4").read_text() == (tmp_path / "a.json").read_text() == "one"


def test_a_second_job_on_one_output_is_refused(tmp_path):
    with Outputs(tmp_path / "a.mp4"):
        with pytest.raises(OutputError, match=r"a\.mp4 is being written by another run"):
            job(tmp_path / "a.mp4", "two")
        job(tmp_path / "b.mp4", "other")
        job(tmp_path / "a.gif", "another kind")
    job(tmp_path / "a.mp4", "three")
    assert (tmp_path / "a.mp4").read_text() == "three"
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a system without these signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_between_the_renames_waits(tmp_path, monkeypatch, number):
    job(tmp_path / "a.mp4", "one")
    real = Aside.commit

    def commit(self, final=None) -> None:
        real(self, final)
        signal.raise_signal(getattr(signal, number))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Aside, "commit", commit)
    before = signal.signal(getattr(signal, number), interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            job(tmp_path / "a.mp4", "two")
    finally:
        signal.signal(getattr(signal, number), before)
    assert (tmp_path / "a.mp4").read_text() == (tmp_path / "a.json").read_text() == "two"
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals_held():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


KILLED = """
import sys, time
from pathlib import Path
from evenreel.files import Aside
from evenreel.outputs import Outputs
target = Path(sys.argv[1])
with Outputs(target) as outputs:
    outputs.add(Aside(target))
    outputs.add(Aside(target.with_suffix(""), folder=True))
    print("begun", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_job_left_is_swept_by_the_next(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "a.mp4")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(OutputError, match="another run"), Outputs(tmp_path / "a.mp4"):
            pytest.fail("two jobs on one output")
        assert (
            sum(name.startswith(".evenreel-") for name in names(tmp_path)) == 3
        )  # it lives: nothing is swept
        process.kill()
    job(tmp_path / "a.mp4", "one")
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_only_what_is_known_to_be_dead_is_swept(tmp_path):
    own, machine = maker().split("-")
    kept = [
        f".evenreel-{own}-{machine}-00000000.mp4",  # of this process
        f".evenreel-{own}-{'0' * 6}-00000000.mp4",  # of another machine
        ".evenreel-something",
        "evenreel-1.mp4",
    ]
    for name in (*kept, f".evenreel-4194305-{machine}-00000000.mp4"):  # a number that no process has
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)
    # a process of that number began after the file was made: the number was given out again
    os.utime(tmp_path / kept[0], (0, 0))
    os.utime(tmp_path / kept[1], (0, 0))  # another machine's stays, however old
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept[1:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_what_a_process_left_is_swept_before_its_parent_has_noticed(tmp_path):
    child = os.fork()
    if not child:
        try:
            Aside(tmp_path / "a.mp4")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert len(names(tmp_path)) == 1
    Aside(tmp_path / "b.mp4").discard()
    assert names(tmp_path) == []
    os.waitpid(child, 0)


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_a_folder_of_pictures_is_never_lost(tmp_path, kills):
    """Killed at the first, second and third rename: the earlier one is under its own name, or under one like it."""
    final = tmp_path / "moon"
    final.mkdir()
    (final / "000000.png").write_bytes(b"old")
    code = """
import os, pathlib, signal, sys
from evenreel.files import Aside
aside = Aside(pathlib.Path(sys.argv[1]), folder=True)
(aside.path / "000000.png").write_bytes(b"new")
left, real = [int(sys.argv[2])], os.rename
def rename(*args):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
os.rename = rename
aside.commit()
"""
    done = subprocess.run([sys.executable, "-c", code, str(final), str(kills)], check=False)
    assert done.returncode == -signal.SIGKILL
    Aside(tmp_path / "other").discard()  # sweeps
    held = {path.name[:12]: (path / "000000.png").read_bytes() for path in tmp_path.iterdir()}
    assert (
        held
        == [
            {"moon": b"old"},
            {"moon-earlier": b"old"},
            {"moon": b"new", "moon-earlier": b"old"},
        ][kills - 1]
    )


@pytest.mark.parametrize(
    ("name", "words"), [("-", "standard output"), ("..", "names no file"), ("", "names no file")]
)
def test_what_is_no_name(monkeypatch, tmp_path, name, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=words):
        Outputs(Path(name))


def test_a_lock_is_let_go_after_a_failure(tmp_path):
    with pytest.raises(ValueError, match="x"), locked(tmp_path / "a"):
        raise ValueError("x")
    with locked(tmp_path / "a"):
        pass
    assert names(tmp_path) == []
