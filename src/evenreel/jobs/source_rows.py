"""What the source's rows of network calls are, for edits of one clip by several prompts: a folder for each source.

state.json          says that the folder is used; its time is that of the last use
HASH.safetensors    a page, of one network call
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenreel.files import write_atomically
from evenreel.jobs import places
from evenreel.jobs.inversions import LOCK, STATE
from evenreel.jobs.tensor_file import no_room

SHARE = 4
"""One source may take one part in so many of what the cache may hold."""


@dataclass
class SourcePages:
    """Pages on disk; a `SourceRows` of `hosts.source_rows`."""

    folder: Path
    most: int
    """Bytes that they may take together."""
    _taken: int = 0
    declined: int = 0
    """Calls whose page there was no room for."""

    def read(self, call: Sequence[object]) -> Mapping[str, Tensor] | None:
        """Return the page of a call; None where it is not there, or damaged."""
        try:
            return load_file(self._path(call))
        except (OSError, SafetensorError):
            return None

    def write(self, call: Sequence[object], page: Mapping[str, Tensor]) -> None:
        """Keep the page of a call. Raises: OutputError where the disk has no room."""
        size = sum(rows.numel() * rows.element_size() for rows in page.values())
        if self._taken + size > self.most:
            self.declined += 1
            return
        self._taken += size
        # copies: rows of one tensor must not be written as two names of it
        held = {name: rows.detach().cpu().contiguous().clone() for name, rows in page.items()}
        path = self._path(call)
        try:
            write_atomically(path, lambda where: save_file(held, where))
        except OSError as error:
            raise no_room(path, error) from error

    def _path(self, call: Sequence[object]) -> Path:
        name = hashlib.sha256(repr(tuple(call)).encode()).hexdigest()[:32]
        return self.folder / f"{name}.safetensors"


@contextmanager
def kept(key: str) -> Generator[SourcePages | None]:
    """Hold the pages of a source while inside; None while another edit has them. Raises: OutputError."""
    folder = places.inversions() / key
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK)
            stack.enter_context(lock.acquire(timeout=0))
            with suppress(OSError):
                (folder / STATE).touch()
        except Timeout:
            yield None
            return
        except OSError as error:
            raise no_room(folder, error) from error
        yield SourcePages(folder, places.limit() // SHARE, places.size_of(folder))
