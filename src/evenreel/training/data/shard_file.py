"""One shard: a plain tar file of samples in WebDataset's layout, the same bytes at every build, read with suspicion.

A sample is a run of members KEY.SUFFIX with one KEY: its JSON and its pictures. WebDataset's readers take such files as
they are. Its library is not used here: its reader cannot go to a sample without passing all before it, its writer
wraps `tarfile` as this module does, and both bring pickle decoders and shell pipes along.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evenreel.errors import DataError
from evenreel.files import shown

BLOCK = 512
RECORD = 20 * BLOCK
"""Tar files are filled up to a multiple of this."""
KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
LARGEST_MEMBER = 1 << 28
"""Bytes that no member of ours can have."""
LARGEST_SAMPLE = 1 << 30


class ShardWriter:
    """Appends samples to an open binary file. What was written since `mark` can be taken back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._mark = 0, 0
        self.samples = 0

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample; `members` are its files by suffix."""
        assert KEY.fullmatch(key), key
        for suffix, data in sorted(members.items()):
            entry = tarfile.TarInfo(f"{key}.{suffix}")  # no owner, no time: the same bytes at every build
            entry.size = len(data)
            self._file.write(entry.tobuf(tarfile.USTAR_FORMAT))
            self._file.write(data)
            self._file.write(bytes(-len(data) % BLOCK))
        self.samples += 1

    def mark(self) -> None:
        """Remember this place in the file, to which `take_back` returns."""
        self._mark = self._file.tell(), self.samples

    def take_back(self) -> None:
        """Forget all samples since the mark."""
        place, self.samples = self._mark
        self._file.seek(place)
        self._file.truncate()

    def finish(self) -> None:
        """Write the end of the archive."""
        self._file.write(bytes(2 * BLOCK))
        self._file.write(bytes(-self._file.tell() % RECORD))
        self._file.flush()


@dataclass(frozen=True)
class Index:
    """Where the samples of one shard lie."""

    path: Path
    keys: tuple[str, ...]
    places: np.ndarray
    """(samples, members, 2): first byte and number of bytes of each member, in the order of `suffixes`."""
    suffixes: tuple[str, ...]

    def read(self, number: int, only: Sequence[str] | None = None) -> dict[str, bytes]:
        """Return the members of one sample, by suffix, in one read; of `only` some where they are named.

        Raises DataError where the file is gone or cut short.
        """
        suffixes = self.suffixes if only is None else tuple(only)
        places = self.places[number][[self.suffixes.index(suffix) for suffix in suffixes]]
        first, last = int(places[:, 0].min()), int(places.sum(axis=1).max())
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(first)
                data = file.read(last - first)
        except OSError as error:
            raise DataError(
                f"{shown(self.path)} cannot be read ({error.strerror}); check the disk, or build it again."
            ) from error
        if data is None or len(data) < last - first:
            raise DataError(f"{shown(self.path)} is cut short; delete it and run the build again.")
        return {
            suffix: data[start - first : start - first + size]
            for suffix, (start, size) in zip(suffixes, places.tolist(), strict=True)
        }


def indexed(path: Path, suffixes: Sequence[str]) -> Index:
    """Find all samples of a shard by its headers alone; nothing is unpacked.

    Raises DataError for anything that is not a plain file with an expected name (links, devices, folders, paths,
    pickles, extended headers), for samples that are not whole, and for damage.
    """
    column = {suffix: number for number, suffix in enumerate(suffixes)}
    rows: dict[str, list[tuple[int, int] | None]] = {}
    current: str | None = None
    for name, first, size in _members(path):
        key, _, suffix = name.partition(".")
        if KEY.fullmatch(key) is None or suffix not in column:
            raise DataError(
                f"{shown(path)} holds {shown(name)!r}, which is not part of a sample; do not use it, build it again."
            )
        if key != current and key in rows:
            raise DataError(f"{shown(path)} holds the sample {key!r} twice; build it again.")
        current = key
        row = rows.setdefault(key, [None] * len(column))
        if row[column[suffix]] is not None:
            raise DataError(f"{shown(path)} holds {name!r} twice; build it again.")
        row[column[suffix]] = first, size
    for key, row in rows.items():
        if None in row:
            missing = suffixes[row.index(None)]
            raise DataError(
                f"{shown(path)} lacks {missing!r} of sample {key!r}; delete it and run the build again."
            )
        places = [place for place in row if place is not None]
        if max(a + b for a, b in places) - min(a for a, _ in places) > LARGEST_SAMPLE:
            raise DataError(f"{shown(path)}: sample {key!r} is too large to be ours; build it again.")
    places = np.array(list(rows.values()), dtype=np.int64).reshape(len(rows), len(column), 2)
    return Index(path, tuple(rows), places, tuple(suffixes))


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of every member."""
    place = 0
    try:
        length = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while True:
                file.seek(place)
                header = file.read(BLOCK) or b""
                if header == bytes(BLOCK):
                    return
                entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                place += BLOCK
                if (
                    entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
                    or not 0 <= entry.size <= LARGEST_MEMBER
                ):
                    raise DataError(
                        f"{shown(path)} holds {shown(entry.name)!r}, which is not a plain file; do not use it, "
                        "build it again."
                    )
                yield entry.name, place, entry.size
                place += entry.size + -entry.size % BLOCK
                if place > length:
                    raise DataError(f"{shown(path)} is cut short; delete it and run the build again.")
    except tarfile.HeaderError as error:
        raise DataError(
            f"{shown(path)} is damaged at byte {place} ({error}); delete it and run the build again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{shown(path)} cannot be read ({error.strerror}); run the build again to have it made."
        ) from error
