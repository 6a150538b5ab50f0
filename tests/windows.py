"""A system that behaves like Windows where systems differ, for tests on Linux.

Folders cannot be opened; only handles that may write can be flushed; a file that this process holds open or mapped can
neither be replaced, renamed nor removed; a rename does not replace; text files are cp1252 with CR LF unless told; and
so is the terminal.
"""

import builtins
import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path

_open, _fsync, _rename, _replace, _unlink, _io_open = (
    os.open,
    os.fsync,
    os.rename,
    os.replace,
    os.unlink,
    io.open,
)


def refuse(number: int, path: object) -> None:
    raise OSError(number, os.strerror(number), str(path))


def is_open(path: str | os.PathLike[str]) -> bool:
    """Whether this process holds the file at `path` open, or has it mapped into memory."""
    place = os.path.realpath(path)
    if not Path(place).is_file():
        return False
    handles = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the handle with which the folder itself was read
            handles.append(str(handle.readlink()))
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = [line.split(maxsplit=5)[5] for line in maps if len(line.split()) > 5]
    return place in handles or place in mapped


def open_handle(path, flags, *more, **named):
    if named.get("dir_fd") is None and isinstance(path, str | os.PathLike) and Path(path).is_dir():
        # the interpreter's own clean-up walks folders through handles; Windows has another way for that
        if sys._getframe(1).f_code.co_filename.endswith("shutil.py"):
            return _open(path, flags, *more, **named)
        refuse(errno.EACCES, path)
    return _open(path, flags, *more, **named)


def fsync(handle) -> None:
    number = handle if isinstance(handle, int) else handle.fileno()
    flags = int(Path(f"/proc/self/fdinfo/{number}").read_text("ascii").split("flags:")[1].split()[0], 8)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        refuse(errno.EBADF, number)
    _fsync(number)


def rename(source, target, **named) -> None:
    if Path(target).exists():
        refuse(errno.EEXIST, target)
    replace(source, target, **named)


def replace(source, target, **named) -> None:
    for path in (source, target):
        inside = Path(path).iterdir() if Path(path).is_dir() else ()
        if any(map(is_open, (path, *inside))):
            refuse(errno.EACCES, path)
    if Path(target).is_dir():
        refuse(errno.EACCES, target)
    _replace(source, target, **named)


def unlink(path, *, dir_fd=None) -> None:
    if dir_fd is None and is_open(path):
        refuse(errno.EACCES, path)
    _unlink(path, dir_fd=dir_fd)


def open_file(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **named):
    if "b" not in mode:
        encoding = "cp1252" if encoding in (None, "locale") else encoding
        newline = "\r\n" if newline is None and mode[0] in "wax" else newline
    return _io_open(file, mode, buffering, encoding, errors, newline, *more, **named)


def behave(monkeypatch) -> None:
    """Put everything in place but the terminal, which pytest exchanges between a fixture and its test."""
    for name, function in {
        "open": open_handle,
        "fsync": fsync,
        "rename": rename,
        "replace": replace,
        "unlink": unlink,
        "remove": unlink,
    }.items():
        monkeypatch.setattr(os, name, function)
    monkeypatch.setattr(io, "open", open_file)
    monkeypatch.setattr(builtins, "open", open_file)


def terminal() -> io.TextIOWrapper:
    """What stands for stdout or stderr."""
    return io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="strict")
