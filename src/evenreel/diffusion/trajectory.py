"""The latents of an inversion, by timestep: in memory while small, on disk when not."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evenreel import scratch
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
        memory_limit: int | None = None,
        directory: Path | None = None,
        latents: Tensor | None = None,
    ) -> None:
        """Make room for latents of `shape` (frames, channels, height, width) at each of `timesteps`.

        `memory_limit` of None is DEFAULT_MEMORY_LIMIT. `directory` holds the scratch file; None means
        `scratch.scratch_folder()`. `latents` is room that there is already.
        Raises: OutputError when the disk has no room.
        """
        self._row = {timestep: row for row, timestep in enumerate(timesteps)}
        full = (len(self._row), *shape)
        size = torch.Size(full).numel() * dtype.itemsize
        limit = DEFAULT_MEMORY_LIMIT if memory_limit is None else memory_limit
        self.on_disk = latents is None and size > limit
        self._latents: Tensor | None = latents
        if self.on_disk:
            self._latents = scratch.on_map(size, directory).view(dtype).view(full)
        elif latents is None:
            self._latents = torch.empty(full, dtype=dtype)

    @classmethod
    def over(cls, timesteps: Sequence[int], latents: Tensor) -> "Trajectory":
        """Return a trajectory whose latents lie in a tensor of shape (timesteps, frames, channels, height, width)."""
        frames, channels, height, width = latents.shape[1:]
        return cls(timesteps, (frames, channels, height, width), dtype=latents.dtype, latents=latents)

    @classmethod
    def of(cls, latents_by_timestep: dict[int, Latents]) -> "Trajectory":
        """Return a trajectory in memory from latents that exist already."""
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
        """Return the latents of `frames` (all of them for None) at a timestep, on the CPU.

        They are a copy; but all of a long clip are where they lie, and must not be changed.
        """
        latents = self._at(timestep)
        if frames is not None:
            return latents[list(frames)]
        return latents if scratch.is_long(latents) else latents.clone()

    def close(self) -> None:
        """Free the memory or the disk space; closing twice is fine."""
        self._latents = None

    def __enter__(self) -> "Trajectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _at(self, timestep: int) -> Tensor:
        if self._latents is None:
            raise ValueError("this trajectory is closed")
        return self._latents[self._row[timestep]]
