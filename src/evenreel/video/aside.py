"""Results that appear whole or not at all: written beside their final name, flushed to disk, then renamed."""

import errno
import os
import re
import secrets
import shutil
from pathlib import Path

from evenreel.errors import OutputError
from evenreel.video.source import shown

OWN_FRAMES = re.compile(r"\d{6,}\.png")
"""Names of frames that we write; a folder with anything else in it is not ours to replace."""


class Aside:
    """A temporary file (or folder) in the folder of `final`, with the same suffix.

    `commit` puts it in place of `final` in one step, `discard` leaves no trace of it; an earlier result stays untouched
    until then. Raises OutputError where `final` cannot be written, before any work is done.
    """

    def __init__(self, final: Path, *, folder: bool) -> None:
        # a link keeps pointing where it points: what it points at is replaced
        self.final = Path(os.path.realpath(final))
        self.folder = folder
        # short, so that it fits wherever the final name does
        self.path = self.final.parent / f".evenreel-{secrets.token_hex(4)}{self.final.suffix}"
        _check(self.final, folder)
        try:
            if folder:
                self.path.mkdir()
            else:
                self.path.touch(exist_ok=False)
        except OSError as error:
            raise unwritable(self.final, error) from error

    def commit(self) -> None:
        """Flush to disk and rename; OutputError, with the earlier result in place, where that fails."""
        try:
            _sync(self.path)
            if self.folder and self.final.exists():
                self._swap_folders()
            else:
                self.path.replace(self.final)
            _sync(self.final.parent)
        except OSError as error:
            self.discard()
            raise unwritable(self.final, error) from error

    def discard(self) -> None:
        """Remove what was written so far."""
        if self.folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)

    def _swap_folders(self) -> None:
        earlier = self.path.with_name(self.path.name + "-earlier")
        self.final.rename(earlier)  # a folder that holds files cannot be replaced in one step
        try:
            self.path.rename(self.final)
        except OSError:
            earlier.rename(self.final)
            raise
        shutil.rmtree(earlier, ignore_errors=True)


def unwritable(path: Path, error: BaseException) -> OutputError:
    """The error to raise for a result that cannot be written."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if isinstance(number, int) and number in errno.errorcode else str(error)
    return OutputError(
        f"{shown(path)} cannot be written ({reason}); free space there or choose another --out."
    )


def _check(final: Path, folder: bool) -> None:
    if not final.parent.is_dir():
        raise OutputError(f"{shown(final.parent)} is not a folder; create it or choose another --out.")
    if not folder:
        if final.exists() and not final.is_file():
            raise OutputError(f"{shown(final)} exists and is not a file; choose another --out.")
        return
    if not final.exists():
        return
    if not final.is_dir():
        raise OutputError(f"{shown(final)} is a file; give a name that ends in .mp4, or a folder, as --out.")
    if foreign := sorted(f.name for f in final.iterdir() if not OWN_FRAMES.fullmatch(f.name)):
        raise OutputError(
            f"{shown(final)} holds other files ({shown(foreign[0])}); choose a new or empty folder as --out."
        )


def _sync(path: Path) -> None:
    """Force a file, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
