"""One safetensors file: its header, checked before any library opens it, its tensors, and its hash."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from evenreel.errors import WeightsError

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Number types that weights may have."""
_LARGEST_HEADER = 100 * 2**20
"""Bytes; the limit of the format itself."""
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0"), 1),
}
"""Of one number, by its type."""
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")
"""Protocol 2 pickles, and the zip files that torch.save writes."""

_OTHER_STARTS = {
    b"gguf": "is a GGUF file, whose weights are quantised; use a copy as safetensors",
    b"version ": "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
    b"<!doctyp": "is a web page, not weights; sign in where it comes from and fetch it again",
    b"<html": "is a web page, not weights; sign in where it comes from and fetch it again",
}
"""How files begin that are often taken for weights, in lower case, and what to say of them."""


@dataclass(frozen=True)
class Entry:
    """What a header says of one tensor."""

    dtype: str
    """The number type, by the format's own name, such as `F16`."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What a whole file holds, without its numbers."""

    path: Path
    tensors: Mapping[str, Entry]
    """By name."""
    metadata: Mapping[str, str]
    """What the file says of itself."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor; None where there is none of that name."""
        entry = self.tensors.get(name)
        return None if entry is None else entry.shape

    def numbers(self, prefix: str = "") -> int:
        """Return how many numbers the tensors hold whose names begin with `prefix`."""
        return sum(_product(e.shape) for name, e in self.tensors.items() if name.startswith(prefix))

    def check_floats(self, names: Iterable[str] | None = None) -> None:
        """Raise WeightsError unless tensors (by default all) hold fractions, which weights are."""
        for name in self.tensors if names is None else names:
            if (dtype := self.tensors[name].dtype) not in FLOATS and not name.endswith("position_ids"):
                raise WeightsError(
                    f"{self.path}: {name} holds numbers of type {dtype}, and weights must be one of "
                    f"{', '.join(FLOATS)}; use a copy that is not quantised."
                )


def read_header(path: Path) -> Header:
    """Read what a safetensors file says it holds. Raises: WeightsError unless the file is whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if length > min(_LARGEST_HEADER, size) and start.startswith(_PICKLE_STARTS):
                raise WeightsError(
                    f"{path}: this is a pickle, not a safetensors file; pickles can run code and are refused, "
                    "so fetch the weights as safetensors."
                )
            if len(start) < 8 or 8 + length > size:
                raise WeightsError(f"{path}: {_not_safetensors(start)}.")
            header = file.read(length) if length <= _LARGEST_HEADER else b""
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error
    return _parsed(path, header, size - 8 - length)


def _not_safetensors(start: bytes) -> str:
    """What a file is that begins in another way, and what to do."""
    for mark, said in _OTHER_STARTS.items():
        if start.lower().startswith(mark):
            return said
    return "the file is cut short or is not a safetensors file; fetch it again"


def check(path: Path) -> None:
    """Raise WeightsError unless `path` is a whole safetensors file."""
    read_header(path)


def load(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Load tensors of a file (by default all), on the CPU. Raises: WeightsError unless the file is whole."""
    names = read_header(path).tensors if names is None else names
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: cannot be read ({reason[:200]}); fetch it again.") from error


def _parsed(path: Path, header: bytes, data_size: int) -> Header:
    try:
        entries = json.loads(header, object_pairs_hook=_without_duplicates)
        metadata = entries.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("metadata that is not text")
        tensors = {name: _entry(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header of this safetensors file is damaged; fetch it again."
        ) from error
    end = 0
    for (begins, ends), name, entry in sorted((span, name, entry) for name, (entry, span) in tensors.items()):
        if entry.dtype not in _BYTES:
            raise WeightsError(
                f"{path}: {name} holds numbers of type {entry.dtype[:40]!r}, which evenreel does not know; "
                "use a copy in F16 or F32."
            )
        if begins != end or ends - begins != _product(entry.shape) * _BYTES[entry.dtype]:
            raise WeightsError(
                f"{path}: the header of this safetensors file is damaged (the place of {name[:80]} is wrong); "
                "fetch it again."
            )
        end = ends
    if end != data_size:
        raise WeightsError(
            f"{path}: the header speaks of {end} bytes of weights but {data_size} follow; fetch it again."
        )
    return Header(path, {name: entry for name, (entry, _) in tensors.items()}, metadata)


def _entry(value: dict[str, Any]) -> tuple[Entry, tuple[int, int]]:
    dtype, shape, (begins, ends) = value["dtype"], value["shape"], value["data_offsets"]
    whole = [*shape, begins, ends]
    if not isinstance(dtype, str) or any(type(n) is not int or not 0 <= n < 2**63 for n in whole):
        raise TypeError("a shape or a place that cannot be")
    return Entry(dtype, tuple(shape)), (begins, ends)


def _product(shape: Iterable[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("duplicate keys")
    return entries


_hashes: dict[tuple[int, ...], str] = {}
"""Of files that were hashed before, by place, size and times of their last changes."""


def sha256(path: Path) -> str:
    """Return the hash of a file's content, as hexadecimal digits; a file that was not changed is read once only.

    Raises: WeightsError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            before = _identity(file)
            if before not in _hashes:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if _identity(file) != before:  # written to in the meantime: whose hash it is nobody knows
                    return digest
                _hashes[before] = digest
            return _hashes[before]
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error


def _identity(file: Any) -> tuple[int, ...]:
    """What changes when a file does. Its mtime can be set back; the time at which that was done cannot."""
    found = os.fstat(file.fileno())
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
