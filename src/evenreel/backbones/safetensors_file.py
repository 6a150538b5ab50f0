"""Checks on one safetensors file before any library opens it."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from evenreel.errors import WeightsError

_LARGEST_HEADER = 100 * 2**20
"""Bytes; the limit of the format itself."""
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")
"""Protocol 2 pickles, and the zip files that torch.save writes."""


def check(path: Path) -> None:
    """Raise WeightsError unless `path` is a whole safetensors file."""
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
                raise WeightsError(
                    f"{path}: the file is cut short or is not a safetensors file; fetch it again."
                )
            header = file.read(length) if length <= _LARGEST_HEADER else b""
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error
    _check_header(path, header, size - 8 - length)


def load(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU. Raises: WeightsError unless it is whole."""
    check(path)
    return load_file(path)


def _check_header(path: Path, header: bytes, data_size: int) -> None:
    try:
        tensors = json.loads(header, object_pairs_hook=_without_duplicates)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header of this safetensors file is damaged; fetch it again."
        ) from error
    if max(ends, default=0) != data_size:
        raise WeightsError(
            f"{path}: the header speaks of {max(ends, default=0)} bytes of weights but {data_size} follow; "
            "fetch it again."
        )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("duplicate keys")
    return entries


def sha256(path: Path) -> str:
    """Hash of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
