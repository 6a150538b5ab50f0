"""A tensor in a safetensors file that is written in place, so that what is there outlives the process that wrote it."""

import json
import math
import mmap
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from evenreel.errors import OutputError
from evenreel.files import shown
from evenreel.scratch import reserve

HEADER = 512
"""Bytes in front of the numbers: a header of fixed length can be written again in place."""
NAME = "latents"
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


class TensorFile:
    """Rows of one shape and number type, appended, or reserved and then written through `tensor`.

    How many of them are whole is for somebody else to remember. The file is one that safetensors reads, once `flush`
    was called. Raises: OutputError when the disk has no room.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path, self.row, self.dtype = path, row, dtype
        self.row_bytes = math.prod(row) * dtype.itemsize
        try:
            self._file = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise no_room(path, error) from error
        self._mapped: mmap.mmap | None = None

    @property
    def rows(self) -> int:
        """Whole rows that are there."""
        return max(0, os.fstat(self._file.fileno()).st_size - HEADER) // self.row_bytes

    def append(self, start: int, tensor: Tensor) -> None:
        """Write rows from `start` on; what was there from that row on is forgotten."""
        numbers = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        try:
            self._file.truncate(HEADER + start * self.row_bytes)
            self._file.seek(HEADER + start * self.row_bytes)
            self._file.write(numbers.tobytes())
            self._file.flush()
        except OSError as error:
            raise no_room(self.path, error) from error

    def reserve(self, rows: int) -> None:
        """Make room for so many rows; a full disk is found out here, and not when they are written."""
        try:
            reserve(self._file, HEADER + rows * self.row_bytes)
            self._file.truncate(HEADER + rows * self.row_bytes)
        except OSError as error:
            raise no_room(self.path, error) from error

    def tensor(self, rows: int) -> Tensor:
        """Return the first rows, of shape (rows, *row), as they lie on disk: writing to the tensor writes the file."""
        self._mapped = mmap.mmap(self._file.fileno(), HEADER + rows * self.row_bytes)
        count = rows * math.prod(self.row)
        return torch.frombuffer(self._mapped, dtype=self.dtype, count=count, offset=HEADER).view(
            rows, *self.row
        )

    def flush(self) -> None:
        """Force all to disk, with a header that says what it is. Raises: OutputError."""
        rows = self.rows
        told = {
            NAME: {
                "dtype": _DTYPES[self.dtype],
                "shape": [rows, *self.row],
                "data_offsets": [0, rows * self.row_bytes],
            }
        }
        text = json.dumps(told).encode().ljust(HEADER - 8)
        try:
            self._file.seek(0)
            self._file.write((HEADER - 8).to_bytes(8, "little") + text)
            self._file.flush()
            if self._mapped is not None:
                self._mapped.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise no_room(self.path, error) from error

    def close(self) -> None:
        """Let go of the file; tensors of it live on."""
        with suppress(OSError):  # what could not be written was told before
            self._file.close()


def no_room(path: Path, error: OSError) -> OutputError:
    """Return the error to raise where what is kept cannot be written."""
    return OutputError(
        f"{shown(path.parent)} cannot keep what was done ({error.strerror or error}); free some space there, and the "
        "same command goes on."
    )


def found(path: Path) -> TensorFile | None:
    """Return the file that was flushed there; None where there is none, or something else."""
    try:
        with path.open("rb") as file:
            start = file.read(HEADER)
        told = json.loads(start[8:])[NAME]
        dtype = {name: dtype for dtype, name in _DTYPES.items()}[told["dtype"]]
        row = tuple(map(int, told["shape"][1:]))
        return TensorFile(path, row, dtype) if row else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
