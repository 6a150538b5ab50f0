"""Tensors as long as a clip: in memory while they are small, on memory maps of scratch files when they are not.

Rows are frames. What lies on a map costs no memory that the system cannot take back, so long as it is read and written
a few rows at a time; the functions here do that.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import IO, Any, ParamSpec

import torch
from torch import Tensor

from evenreel.errors import OutputError

LIMIT = 16 * 2**20
"""Bytes up to which a tensor stays in memory: those of latents of 256 frames of 512 x 512 pixels."""
PIECE = 4 * 2**20
"""Bytes of the rows of a long tensor that are computed at once."""

Arguments = ParamSpec("Arguments")


def is_long(tensor: Tensor) -> bool:
    """Return whether a tensor is of a size that lies on a map."""
    return tensor.device.type == "cpu" and _bytes(tensor.shape, tensor.dtype) > LIMIT


def room(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Make room for a tensor: on a device while it is small, on a map when it is not. What it holds is undefined.

    Raises: OutputError where the disk has no room.
    """
    size = _bytes(shape, dtype)
    if size <= LIMIT:
        return torch.empty(*shape, dtype=dtype, device=device)
    return on_map(size).view(dtype).view(*shape)


def room_like(tensor: Tensor) -> Tensor:
    """Make room for a tensor as another one."""
    return room(tensor.shape, tensor.dtype, tensor.device)


def on_map(size: int, folder: Path | None = None) -> Tensor:
    """Return bytes in a scratch file without a name, which goes when its last tensor does, or the process.

    `folder` holds the file; None is `scratch_folder()`. Raises: OutputError where the disk has no room.
    """
    try:
        with tempfile.TemporaryFile(dir=folder or scratch_folder()) as file:
            reserve(file, size)
            return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
    except OSError as error:
        raise OutputError(
            f"{folder or scratch_folder()}: no room for {size / 2**20:.0f} MiB of latents ({error.strerror}); "
            "free some space, or set TMPDIR to a larger disk."
        ) from error


def placed(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device, unless it is too long for that."""
    return tensor if is_long(tensor) else tensor.to(device)


def pieces(*tensors: Tensor) -> list[slice]:
    """Cut the rows of tensors into pieces that may be in memory: all at once where none is long.

    Tensors of one row serve for all rows.
    """
    rows = max(map(len, tensors))
    if not any(map(is_long, tensors)):
        return [slice(0, rows)]
    largest = max(_bytes(one.shape[1:], one.dtype) for one in tensors)
    step = max(1, PIECE // max(1, largest))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]


def piecewise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Compute a `function` of tensors that does nothing across rows, some rows at a time.

    Tensors of one row serve for all rows. The result is as it would be at once.
    """
    parts = pieces(*tensors)
    if len(parts) == 1:
        return function(*tensors)
    computed = (function(*(one if len(one) == 1 else one[part] for one in tensors)) for part in parts)
    return joined(computed, parts[-1].stop)


def in_pieces(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Let a function of tensors, its first arguments, that does nothing across rows take long ones too."""

    whole: Callable[..., Tensor] = function

    @wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        tensors = [one for one in args if isinstance(one, Tensor)]
        if not any(map(is_long, tensors)):
            return function(*args, **kwargs)
        others: tuple[Any, ...] = args[len(tensors) :]
        return piecewise(lambda *parts: whole(*parts, *others, **kwargs), *tensors)

    return wrapped


def joined(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Join parts of a tensor that will have so many rows, as they come."""
    made, start = None, 0
    for part in parts:
        if made is None:
            made = room((rows, *part.shape[1:]), part.dtype, part.device)
        made[start : start + len(part)] = part
        start += len(part)
    assert made is not None, "there are rows"
    assert start == rows, "all rows come"
    return made


class Growing:
    """A tensor whose number of rows is not known before: in memory first, on disk when it has become long."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: Tensor) -> None:
        """Add rows, which have the shape and number type of those before. Raises: OutputError for a full disk."""
        self._rows += len(rows)
        self._parts.append(rows)
        self._held += _bytes(rows.shape, rows.dtype)
        if self._file is not None or self._held > LIMIT:
            self._write()

    def tensor(self) -> Tensor:
        """Return all rows, in one layout; those that were few are on the device that they came on."""
        if self._file is None:
            # autoencoders give another layout in memory, in which the network's last digits differ
            return torch.cat(self._parts).contiguous()
        self._file.flush()
        size = os.fstat(self._file.fileno()).st_size
        flat = torch.frombuffer(mmap.mmap(self._file.fileno(), size), dtype=self._dtype)
        return flat.view(self._rows, *self._shape)

    def _write(self) -> None:
        if self._file is None:
            first = self._parts[0]
            self._shape, self._dtype = tuple(first.shape[1:]), first.dtype
            self._file = tempfile.TemporaryFile(dir=scratch_folder())  # noqa: SIM115 - lives as long as this
            weakref.finalize(self, self._file.close)
        try:
            for rows in self._parts:
                numbers = rows.detach().cpu().contiguous().view(torch.uint8)
                self._file.write(numbers.numpy().data)
        except OSError as error:
            raise OutputError(
                f"{scratch_folder()}: no room for {self._rows} frames ({error.strerror}); free some space, or set "
                "TMPDIR to a larger disk."
            ) from error
        self._parts.clear()


def scratch_folder() -> str:
    """Return where large temporary files go: TMPDIR if it is set, else /var/tmp, a disk where /tmp may be memory."""
    large = "/var/tmp"  # noqa: S108 - files get unpredictable names, or none
    if not os.environ.get("TMPDIR") and os.access(large, os.W_OK):
        return large
    return tempfile.gettempdir()


def reserve(file: IO[bytes], size: int) -> None:
    """Make a file at least that large. Raises: OSError when the disk has no room."""
    # A sparse file would kill the process with SIGBUS when the disk fills; reserving fails here, politely.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    block = bytes(2**20)
    file.seek(0, os.SEEK_END)
    for start in range(file.tell(), size, len(block)):
        file.write(block[: size - start])
    file.flush()


def _bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize
