"""Results that appear whole or not at all: written beside their final name, flushed to disk, then renamed.

Everything that evenreel writes goes through this module, so that one place knows what systems differ in: Windows
flushes only files opened for writing, cannot open folders, and cannot replace a file that somebody holds open.
"""

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from evenreel.errors import OutputError, argument

OWN_FRAMES = re.compile(r"\d{6,}\.png")
"""Names of frames that we write; a folder with anything else in it is not ours to replace."""
LEFT_BY_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Files that file managers leave in every folder they show, in lower case; they are nobody's work."""
LEFT_OVER = re.compile(r"\.evenreel-(\d+)-([0-9a-f]{6})-[0-9a-z_]{8}")
"""Names under which things are written; see `maker`."""
PATIENCE = 1.0
"""Seconds for which a rename is tried again on Windows, where virus scanners hold new files open for a moment."""


class NotRenamedError(OutputError):
    """A result is finished, but could not be given its name; it is kept under another."""

    def __init__(self, final: Path, kept: Path, error: OSError) -> None:
        super().__init__(
            f"{shown(final)} cannot be replaced ({_reason(error)}); the finished result is kept as {shown(kept)}: "
            "close what holds the old one, then rename it."
        )
        self.kept = kept
        """Where the result lies."""


class Aside:
    """A temporary file (or folder) in the folder of `final`, with the same suffix.

    `commit` puts it in place of `final` in one step, `discard` leaves no trace of it; an earlier result stays untouched
    until then. What killed processes left in that folder is swept. Raises OutputError where `final` cannot be written,
    before any work is done.
    """

    def __init__(self, final: Path, *, folder: bool = False) -> None:
        # a link keeps pointing where it points: what it points at is replaced
        self.final = Path(os.path.realpath(final))
        self.folder = folder
        # short, so that it fits wherever the final name does
        self.path = self.final.parent / f".evenreel-{maker()}-{secrets.token_hex(4)}{self.final.suffix}"
        self._flushed = False
        _check(self.final, folder)
        sweep(self.final.parent)
        try:
            if folder:
                self.path.mkdir()
            else:
                self.path.touch(exist_ok=False)
        except OSError as error:
            raise unwritable(self.final, error) from error

    def flush(self) -> None:
        """Force what was written to disk, so that renaming is all that is left. Raises OutputError."""
        try:
            self._sync()
        except OSError as error:
            self.discard()
            raise unwritable(self.final, error) from error
        self._flushed = True

    def commit(self, final: Path | None = None) -> None:
        """Flush to disk and rename, to `final` where that is not the name it was made for.

        Raises OutputError, with an earlier result in place and nothing else left, where flushing fails; and
        NotRenamedError, with the finished result kept beside it, where the name cannot be taken.
        """
        final = self.final if final is None else final
        if not self._flushed:
            self.flush()
        try:
            _patiently(lambda: self._take_name(final))
        except OSError as error:
            raise NotRenamedError(final, self._keep(final), error) from error
        _sync_names(final.parent)

    def discard(self) -> None:
        """Remove what was written so far; harmless once it is renamed."""
        if self.folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with suppress(OSError):  # on Windows, while something holds it open
                self.path.unlink(missing_ok=True)

    def _sync(self) -> None:
        if not self.folder:
            sync(self.path)
            return
        for file in self.path.iterdir():
            sync(file)
        _sync_names(self.path)

    def _take_name(self, final: Path) -> None:
        if self.folder and final.exists():
            self._swap_folders(final)
        else:
            self.path.replace(final)

    def _swap_folders(self, final: Path) -> None:
        # A folder that holds files cannot be replaced in one step. A process that is killed between the two leaves the
        # earlier one under a name that people see, and that is not swept.
        start = os.fsdecode(os.fsencode(final.name)[:200])
        earlier = final.with_name(f"{start}-earlier-{secrets.token_hex(2)}")
        final.rename(earlier)
        try:
            self.path.rename(final)
        except OSError:
            earlier.rename(final)
            raise
        with suppress(OSError):
            earlier = earlier.rename(self.path)  # from here on it is swept
        shutil.rmtree(earlier, ignore_errors=True)

    def _keep(self, final: Path) -> Path:
        """Give the result a name that people see, if that can be done; returns where it lies."""
        kept = final.with_name(f"{final.stem}-finished-{secrets.token_hex(2)}{final.suffix}")
        try:
            self.path.rename(kept)
        except OSError:
            kept = self.path
        # `discard` must not find it any more
        self.path = self.path.with_name(f"{self.path.name}-kept")
        return kept


def write_atomically(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Write a file so that `path` is at every moment what it was before or the whole new file.

    `content` is bytes, text (written as UTF-8, lines ended by a line feed on every system), or a function that writes
    to the path it is given, which has the same suffix. Tensors that were read from the old file with safetensors must
    be clones: they keep it open, and on Windows an open file cannot be replaced.

    Raises OutputError where the file cannot be written, with the old one in place, and NotRenamedError where only the
    last step fails, with the new one kept beside it.
    """
    aside = Aside(path)
    try:
        if isinstance(content, str):
            # names of files may hold what is not text; it is escaped, as in everything that we print
            aside.path.write_bytes(content.encode("utf-8", "backslashreplace"))
        elif isinstance(content, bytes):
            aside.path.write_bytes(content)
        else:
            content(aside.path)
        aside.commit()
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        aside.discard()


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it. Raises: OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made ({error.strerror}); choose another {argument('output')}."
        ) from error


def scratch() -> TemporaryDirectory[str]:
    """Return a folder for files that nobody keeps; those of killed processes are swept."""
    sweep(Path(gettempdir()))
    return TemporaryDirectory(prefix=f".evenreel-{maker()}-")


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in the place of `~`; as it is where `~name` names nobody, so that it is not
    found.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def maker() -> str:
    """Return who writes: a process, on a machine or in a container."""
    return f"{os.getpid()}-{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}"


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are gone had begun to write in a folder."""
    with suppress(OSError):
        for path in folder.glob(".evenreel-*"):
            if _is_left_over(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    match = LEFT_OVER.match(path.name)
    if match is None:
        return False
    number, made = int(match[1]), path.stat().st_mtime
    if match[2] != maker().rpartition("-")[2]:
        return False  # whether another machine's process lives cannot be seen from here
    import psutil  # here, so that the doctor can say that it is missing

    try:
        process = psutil.Process(number)
        # a process that began after the file did is another one under the same number
        return process.create_time() > made + 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def sync(path: Path) -> None:
    """Force the content of a file to disk."""
    # Windows flushes only through a handle that may write
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def unwritable(path: Path, error: BaseException) -> OutputError:
    """Return the error to raise for a result that cannot be written."""
    return OutputError(
        f"{shown(path)} cannot be written ({_reason(error)}); free space there or choose another {argument('output')}."
    )


def foreign_to(folder: Path, *ours: str) -> str | None:
    """Return the first file in a folder that neither matches a pattern of `ours` nor is left there by systems."""
    names = sorted(file.name for file in folder.iterdir())
    own = re.compile("|".join(ours) or "(?!)")
    return next(
        (name for name in names if not own.fullmatch(name) and name.lower() not in LEFT_BY_SYSTEMS), None
    )


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path on one line of printable text, whatever its name holds."""
    name = os.fspath(path)
    return name if name.isprintable() else ascii(name)[1:-1]


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number in errno.errorcode else str(error)


def _check(final: Path, folder: bool) -> None:
    if not final.parent.is_dir():
        raise OutputError(
            f"{shown(final.parent)} is not a folder; create it or choose another {argument('output')}."
        )
    if not folder:
        if final.exists() and not final.is_file():
            raise OutputError(
                f"{shown(final)} exists and is not a file; choose another {argument('output')}."
            )
        return
    if not final.exists():
        return
    if not final.is_dir():
        raise OutputError(
            f"{shown(final)} is a file; give a name that ends in .mp4, or a folder, as {argument('output')}."
        )
    if foreign := foreign_to(final, OWN_FRAMES.pattern):
        raise OutputError(
            f"{shown(final)} holds other files ({shown(foreign)}); "
            f"choose a new or empty folder as {argument('output')}."
        )


def _patiently(rename: Callable[[], None]) -> None:
    """Rename; on Windows, try for a moment while another program holds a file open."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return rename()
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _sync_names(folder: Path) -> None:
    """Force the names in a folder to disk, where the system can: Windows opens no folders and keeps names itself."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
