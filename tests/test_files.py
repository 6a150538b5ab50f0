"""Files that appear whole or not at all: on this system, and on one that behaves like Windows."""

import errno
import os
from pathlib import Path

import pytest

from evenreel.errors import OutputError
from evenreel.files import Aside, NotRenamedError, foreign_to, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def failing_rename(monkeypatch, *, refused) -> None:
    """Renames to a path for which `refused` holds fail, as on Windows while a player shows the old file."""
    for function in ("replace", "rename"):
        real = getattr(os, function)

        def rename(source, target, real=real):
            if refused(Path(target)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
            return real(source, target)

        monkeypatch.setattr(os, function, rename)


@pytest.mark.parametrize(
    "content", [b"new\n", "new\n", lambda path: path.write_bytes(b"new\n")], ids=["bytes", "text", "function"]
)
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    write_atomically(path, content)
    assert path.read_bytes() == b"new\n"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_utf8_with_line_feeds_and_odd_file_names_are_escaped(tmp_path):
    write_atomically(tmp_path / "a", "é\nb\udcff\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\nb\\udcff\n"


def test_a_file_that_is_half_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(aside: Path) -> None:
        aside.write_text("ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"a\.txt cannot be written \(No space left"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_content_that_cannot_be_flushed_is_not_taken_for_finished(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match=r"cannot be written \(Input/output error\)"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_result_that_cannot_take_its_name_is_kept_and_named(tmp_path, monkeypatch, folder):
    final = tmp_path / ("clip" if folder else "clip.mp4")
    aside = Aside(final, folder=folder)
    (aside.path / "000000.png" if folder else aside.path).write_bytes(b"finished")
    failing_rename(monkeypatch, refused=lambda target: target == final)
    with pytest.raises(NotRenamedError) as raised:
        aside.commit()
    aside.discard()
    kept = raised.value.kept
    assert str(kept) in str(raised.value)
    assert names(tmp_path) == [kept.name]
    assert kept.name.startswith("clip-finished-")
    assert (kept / "000000.png" if folder else kept).read_bytes() == b"finished"


def test_a_result_is_kept_also_where_no_rename_works(tmp_path, monkeypatch):
    aside = Aside(tmp_path / "clip.mp4")
    aside.path.write_bytes(b"finished")
    failing_rename(monkeypatch, refused=lambda target: True)
    with pytest.raises(NotRenamedError) as raised:
        aside.commit()
    aside.discard()
    assert raised.value.kept.read_bytes() == b"finished"
    assert raised.value.kept.name in str(raised.value)


def test_an_earlier_folder_is_back_in_place_when_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    final = tmp_path / "clip"
    final.mkdir()
    (final / "000000.png").write_bytes(b"old")
    aside = Aside(final, folder=True)
    (aside.path / "000000.png").write_bytes(b"new")
    calls = []
    failing_rename(
        monkeypatch, refused=lambda target: target == final and not calls.append(target) and len(calls) == 1
    )
    with pytest.raises(NotRenamedError) as raised:
        aside.commit()
    assert (final / "000000.png").read_bytes() == b"old"
    assert (raised.value.kept / "000000.png").read_bytes() == b"new"
    assert names(tmp_path) == sorted(["clip", raised.value.kept.name])


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_files_of_file_managers_are_not_other_files(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "000000.png").touch()
    assert foreign_to(tmp_path, r"\d{6}\.png") is None
    (tmp_path / "letter.txt").touch()
    assert foreign_to(tmp_path, r"\d{6}\.png") == "letter.txt"
