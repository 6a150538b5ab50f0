"""The latents of an inversion, by timestep: in memory while small, on disk when not."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from evenreel.errors import OutputError
from evenreel.types import Latents

DEFAULT_MEMORY_LIMIT = 256 * 2**20
"""Bytes up to which a trajectory stays in memory."""


class Trajectory:
    """Noisy latents of a whole clip at every timestep of a run.

    A trajectory of more than `memory_limit` bytes lives in a memory-mapped scratch file without a name, which the
    operating system deletes when it is closed, also when the process is killed. Use it as a context manager.
    """

    def __init__(
        self,
        timesteps: Sequence[int],
        shape: tuple[int, int, int, int],
        *,
        dtype: torch.dtype = torch.float32,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        directory: Path | None = None,
        latents: Tensor | None = None,
    ) -> None:
        """Make room for latents of `shape` (frames, channels, height, width) at each of `timesteps`.

        `directory` holds the scratch file; None means `scratch_folder()`. `latents` is room that there is already.
        Raises: OutputError when the disk has no room.
        """
        self._row = {timestep: row for row, timestep in enumerate(timesteps)}
        self._resources = ExitStack()
        full = (len(self._row), *shape)
        size = torch.Size(full).numel() * dtype.itemsize
        self.on_disk = latents is None and size > memory_limit
        if latents is not None:
            self._latents: Tensor | None = latents
        elif self.on_disk:
            try:
                self._latents = self._scratch(size, directory).view(dtype).view(full)
            except OSError as error:
                self._resources.close()
                where = directory or scratch_folder()
                raise OutputError(
                    f"{where}: no room for {size / 2**20:.0f} MiB of latents ({error.strerror}); "
                    "free some space, or set TMPDIR to a larger disk."
                ) from error
        else:
            self._latents = torch.empty(full, dtype=dtype)

    @classmethod
    def over(cls, timesteps: Sequence[int], latents: Tensor) -> "Trajectory":
        """A trajectory whose latents lie in a tensor of shape (timesteps, frames, channels, height, width)."""
        frames, channels, height, width = latents.shape[1:]
        return cls(timesteps, (frames, channels, height, width), dtype=latents.dtype, latents=latents)

    @classmethod
    def of(cls, latents_by_timestep: dict[int, Latents]) -> "Trajectory":
        """A trajectory in memory from latents that exist already."""
        first = next(iter(latents_by_timestep.values()))
        frames, channels, height, width = first.shape
        trajectory = cls(tuple(latents_by_timestep), (frames, channels, height, width), dtype=first.dtype)
        for timestep, latents in latents_by_timestep.items():
            trajectory.write(timestep, latents)
        return trajectory

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The timesteps it has room for, in the order given."""
        return tuple(self._row)

    def __contains__(self, timestep: int) -> bool:
        return timestep in self._row

    def __len__(self) -> int:
        return len(self._row)

    def write(self, timestep: int, latents: Latents, *, start: int = 0) -> None:
        """Store the latents of frames `start`, `start` + 1, ... at a timestep."""
        self._at(timestep)[start : start + len(latents)].copy_(latents)

    def read(self, timestep: int, frames: Sequence[int] | None = None) -> Latents:
        """Return a copy of the latents of `frames` (all of them for None) at a timestep, on the CPU."""
        latents = self._at(timestep)
        return latents.clone() if frames is None else latents[list(frames)]

    def close(self) -> None:
        """Free the memory or the disk space; closing twice is fine."""
        self._latents = None
        self._resources.close()

    def __enter__(self) -> "Trajectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _at(self, timestep: int) -> Tensor:
        if self._latents is None:
            raise ValueError("this trajectory is closed")
        return self._latents[self._row[timestep]]

    def _scratch(self, size: int, directory: Path | None) -> Tensor:
        scratch = tempfile.TemporaryFile(dir=directory or scratch_folder())  # noqa: SIM115 - lives as long as the trajectory
        file = self._resources.enter_context(scratch)
        reserve(file, size)
        # The mapping goes when its last tensor does; closing it here would fail while one is alive.
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)


def scratch_folder() -> str:
    """Where large temporary files go: TMPDIR if it is set, else /var/tmp, a disk where /tmp may be memory."""
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
