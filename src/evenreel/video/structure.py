"""Whether a file ends before its own container says it does: only the outermost sizes are read, no frame is."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FIRST_BOXES = (b"ftyp", b"wide", b"mdat", b"free", b"skip")
"""With which MP4 and QuickTime files begin that may have their index at the end."""
MOST_BOXES = 10_000
LARGEST_INDEX = 2**28
"""Bytes of an index that are looked into."""
EBML_HEADER, SEGMENT = 0x1A45DFA3, 0x18538067


def missing_bytes(path: Path, container: str) -> int | None:
    """Return how many bytes a file lacks of what it announces; None where its format (FFmpeg's name) announces nothing.

    A GIF without its end lacks 1.
    """
    reader = READERS.get(container)
    if reader is None:
        return None
    try:
        with path.open("rb") as file:
            announced = reader(file)
    except OSError:
        return None
    return None if announced is None else max(0, announced - path.stat().st_size)


def lacks_index(path: Path) -> bool:
    """Return whether a file is an MP4 or QuickTime one that ends before its index (`moov`), which recorders write last.

    Pictures of this format (HEIC, AVIF) have `meta` instead.
    """
    seen = [kind for kind, _, _ in _boxes(path)]
    return bool(seen) and seen[0] in FIRST_BOXES and not {b"moov", b"meta"} & set(seen)


def is_encrypted(path: Path) -> bool:
    """Return whether the pictures of an MP4 are encrypted (ISO/IEC 23001-7): so its index calls them."""
    for kind, begins, length in _boxes(path):
        if kind == b"moov" and length <= LARGEST_INDEX:
            with path.open("rb") as file:
                file.seek(begins)
                return b"encv" in file.read(length)
    return False


def _boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of the outermost boxes of an MP4 (ISO/IEC 14496-12); only their heads are read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for _ in range(MOST_BOXES):
                begins, head = file.tell(), file.read(8)
                length = int.from_bytes(head[:4], "big")
                if length == 1:
                    length = int.from_bytes(file.read(8), "big")
                if len(head) < 8 or 0 < length < 8:
                    return
                yield head[4:], begins, length or size - begins
                if not length or begins + length > size:
                    return
                file.seek(begins + length)
    except OSError:
        return


def _matroska(file: BinaryIO) -> int | None:
    """Where the segment ends (RFC 8794, RFC 9559); None for recordings whose writer did not know."""
    while (identity := _ebml_number(file, keep_marker=True)) is not None:
        size = _ebml_number(file, keep_marker=False)
        if size is None or identity not in (EBML_HEADER, SEGMENT):
            return None
        end = file.tell() + size
        if identity == SEGMENT:
            return end
        file.seek(end)
    return None


def _ebml_number(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """A number of variable length; None for one of all ones, which means unknown, and at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    ones = (1 << (7 * length)) - 1
    if keep_marker:
        return value
    return None if value & ones == ones else value & ones


def _avi(file: BinaryIO) -> int | None:
    """Where the last of the RIFF chunks ends; None where the recorder never filled its size in."""
    end = None
    while (head := file.read(12))[:4] == b"RIFF" and len(head) == 12:
        size = int.from_bytes(head[4:8], "little")
        if size in (0, 0xFFFFFFFF):
            return None
        end = file.tell() - 4 + size
        file.seek(end + size % 2)
    return end


def _gif(file: BinaryIO) -> int:
    """Where a GIF89a ends, past its trailer; one byte beyond the file where it has none."""
    beyond = file.seek(0, os.SEEK_END) + 1
    file.seek(0)
    head = file.read(13)
    if len(head) < 13:
        return beyond
    _skip_colours(file, head[10])
    while kind := file.read(1):
        if kind == b";":
            return file.tell()
        if kind == b",":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return beyond
            _skip_colours(file, descriptor[8])
            file.read(1)
        elif kind == b"!":
            file.read(1)
        elif kind != b"\0":
            return beyond
        if kind in b",!":
            while (length := file.read(1)) and length != b"\0":
                file.seek(length[0], os.SEEK_CUR)
    return beyond


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


READERS: dict[str, Callable[[BinaryIO], int | None]] = {
    "matroska,webm": _matroska,
    "avi": _avi,
    "gif": _gif,
}
