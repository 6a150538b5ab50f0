"""Rendered pictures and clips that all parts of the mini model are trained on, made by all cores.

Sample i shows the scene of seed i, so its attributes are recomputed, not stored.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evenreel import process_pool
from evenreel.errors import SettingsError
from evenreel.files import write_atomically
from evenreel.world import random_scene, render

SIZE = 128
CLIP_FRAMES = 24
"""Frames of a scene in which its object stays in view."""
_CHUNK = 250


def frame_of(seed: int) -> int:
    """Return which frame of its scene a picture shows."""
    return (seed * 7919) % CLIP_FRAMES


def render_one(seed: int) -> Float[Tensor, "3 128 128"]:
    """Render the picture of a seed, in [0, 1]."""
    return render(random_scene(seed), [frame_of(seed)], SIZE, maps=False).frames[0]


def as_bytes(pictures: Tensor) -> np.ndarray:
    """Return pictures in [0, 1] as uint8."""
    return (pictures * 255).round().byte().numpy()


def in_order(
    pool: Executor, work: Callable[[int], int], numbers: range, *, ahead: int
) -> Iterator[int | None]:
    """Yield results of `work` in the order of `numbers`; None whenever the next one is not there yet (ask again
    later)."""
    waiting: dict[int, Future[int]] = {}
    submitted = iter(numbers)
    for number in numbers:
        while len(waiting) < ahead and (following := next(submitted, None)) is not None:
            waiting[following] = pool.submit(work, following)
        while not waiting[number].done():
            yield None
        yield waiting.pop(number).result()


class _PoolChunk:
    """Renders a stretch of the pool into its file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, first: int) -> int:
        pictures = np.load(self.path, mmap_mode="r+")
        pictures[first : first + _CHUNK] = as_bytes(
            torch.stack([render_one(seed) for seed in range(first, first + _CHUNK)])
        )
        return first


def _render(path: Path, count: int) -> None:
    """Render pictures into a file, by several processes."""
    shape = (count, 3, SIZE, SIZE)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    with process_pool.executor(os.cpu_count() or 1) as pool:
        for _ in pool.map(_PoolChunk(path), range(0, count, _CHUNK)):
            pass


class Pool:
    """Pictures of seeds 0 .. count-1 in a memory-mapped file, rendered at first use."""

    def __init__(self, path: Path, count: int) -> None:
        if count % _CHUNK:
            raise ValueError(f"pool size must be a multiple of {_CHUNK}, got {count}.")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda aside: _render(aside, count))
        self._pictures = np.load(path, mmap_mode="r")
        if len(self._pictures) < count:
            raise SettingsError(
                f"{path} holds {len(self._pictures)} pictures, {count} are wanted; delete it to have it rendered again."
            )
        self.count = count

    def __getitem__(self, seeds: Tensor) -> Float[Tensor, "pictures 3 128 128"]:
        """Pictures of the given seeds, in [0, 1]."""
        return torch.from_numpy(self._pictures[seeds.numpy()]).float() / 255

    def batch(
        self, generator: torch.Generator, size: int
    ) -> tuple[Tensor, Float[Tensor, "pictures 3 128 128"]]:
        """Return random seeds and their pictures."""
        seeds = torch.randint(self.count, (size,), generator=generator)
        return seeds, self[seeds]
