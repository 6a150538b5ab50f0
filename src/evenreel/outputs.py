"""Results of one job that belong together: they take their names in one step, and one job at a time writes them.

    with Outputs(Path("moon.mp4")) as outputs:
        clip = outputs.aside()
        ...                                  # hours
        outputs.add(record, lambda: Path("moon.json"))

Leaving the `with` block renames them all, with signals held; an error, or an interrupt before that, discards them all.
"""

# pyright: reportDeprecated=false
# (contextlib.contextmanager over Iterator, as everywhere here)

import dataclasses
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

from filelock import FileLock, Timeout

from evenreel.errors import OutputError, argument
from evenreel.files import Aside, NotRenamedError, shown, unwritable

LOCK_PREFIX = ".evenreel-lock-"
PATIENCE = 60.0
"""Seconds to wait for a lock that is only held while files are renamed."""
MOMENT = 0.5
"""Seconds to wait for a lock that its holder may be about to let go."""


@dataclass
class _Part:
    aside: Aside
    name: Callable[[Path], Path] | None
    """The name to take, from that of the job's result; None for the one it was made for."""


class Outputs:
    """What one job writes.

    Raises OutputError where another job is writing the same, or where it cannot be written.
    """

    def __init__(self, target: Path) -> None:
        check_name(target)
        self.target = target
        self.paths: list[Path] = []
        """Where the parts lie, once they are renamed."""
        self._parts: list[_Part] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Outputs":
        real = Path(os.path.realpath(self.target))
        if real.parent.is_dir():  # what else is wrong with it is told by the writer of the first part
            _sweep_locks(real.parent)
            self._stack.enter_context(locked(real))
        return self

    def add(self, aside: Aside, name: Callable[[Path], Path] | None = None) -> None:
        """Take over a part, which from here on is renamed or discarded with the others.

        `name` gives its name from that of the result, under a lock that jobs with results of like names hold too.
        """
        self._parts.append(_Part(aside, name))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            try:
                if kind is None and self._parts:
                    self._commit()
            finally:
                for part in self._parts:
                    part.aside.discard()

    def _commit(self) -> None:
        for part in self._parts:
            part.aside.flush()
        with locked(self.target.with_suffix(""), patience=PATIENCE, names=True), signals_held():
            for part in self._parts:
                final = part.name(self.target) if part.name is not None else part.aside.final
                try:
                    part.aside.commit(final)
                except NotRenamedError as error:
                    self._keep_beside(error.kept)
                    raise
                self.paths.append(final)

    def _keep_beside(self, kept: Path) -> None:
        """Give the parts that are left names beside a first one that could not take its own."""
        for part in self._parts[1:]:
            if part.name is not None and part.aside.path.exists():
                with suppress(OutputError):  # the error that is on its way says more
                    part.aside.commit(part.name(kept))


def check_name(target: Path) -> None:
    """Raise OutputError for what is not the name of a file or folder."""
    if target.name == "-":
        raise OutputError(
            f"results are not written to standard output; give the name of a file as {argument('output')}."
        )
    if target.name in ("", ".", ".."):
        raise OutputError(
            f"{os.fspath(target)!r} names no file or folder to write; choose another {argument('output')}."
        )


def _sweep_locks(folder: Path) -> None:
    """Remove the locks of jobs that were killed."""
    for path in folder.glob(f"{LOCK_PREFIX}*"):
        with suppress(Timeout, OSError):
            lock = FileLock(path)
            lock.acquire(timeout=0)
            _let_go(lock)


def _let_go(lock: FileLock) -> None:
    path = Path(lock.lock_file)
    try:
        # while it is still held: who waits for it finds another file under the name, and takes that
        path.unlink(missing_ok=True)
    except OSError:
        lock.release()
        with suppress(OSError):  # Windows removes no open file, and so none that another holds by now
            path.unlink(missing_ok=True)
    else:
        lock.release()


@contextmanager
def locked(final: Path, *, patience: float = MOMENT, names: bool = False) -> Generator[None]:
    """Keep other jobs on this machine from writing `final`; OutputError where one does for longer than `patience`.

    With `names`, from renaming what is called like it.
    """
    key = os.fsencode(final.name) + b"/" * names
    name = hashlib.sha256(key).hexdigest()[:16]
    lock = FileLock(final.parent / f"{LOCK_PREFIX}{name}")
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise OutputError(
            f"{shown(final)} is being written by another run of evenreel; wait for it to end or choose another "
            f"{argument('output')}."
        ) from error
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        yield
    finally:
        _let_go(lock)


@contextmanager
def signals_held() -> Generator[None]:
    """Let signals that would end the program wait until the block is left."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    held = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in held:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, old in held.items():
            signal.signal(number, old)
        for number in came:
            signal.raise_signal(number)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; fractions stay exact as "a/b"."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in cast("Iterable[Any]", value)]
    return str(value)
