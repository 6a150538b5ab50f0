"""A pool of rendered pictures that all parts of the mini model are trained on.

Picture i is one frame of the scene of seed i, so its caption and attributes are recomputed, not stored.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.world import random_scene, render

SIZE = 128
CLIP_FRAMES = 24
_CHUNK = 250


def frame_of(seed: int) -> int:
    """Which frame of its scene a picture shows."""
    return (seed * 7919) % CLIP_FRAMES


def render_one(seed: int) -> Float[Tensor, "3 128 128"]:
    """Picture of a seed, in [0, 1]."""
    return render(random_scene(seed), [frame_of(seed)], SIZE, maps=False).frames[0]


def _render_chunk(first: int) -> np.ndarray:
    torch.set_num_threads(1)
    pictures = torch.stack([render_one(seed) for seed in range(first, first + _CHUNK)])
    return (pictures * 255).round().byte().numpy()


class Pool:
    """Pictures of seeds 0 .. count-1 in a memory-mapped file, rendered at first use."""

    def __init__(self, path: Path, count: int) -> None:
        if count % _CHUNK:
            raise ValueError(f"pool size must be a multiple of {_CHUNK}, got {count}.")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".partial")
            pictures = np.lib.format.open_memmap(
                aside, mode="w+", dtype=np.uint8, shape=(count, 3, SIZE, SIZE)
            )
            with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
                for first, chunk in zip(
                    range(0, count, _CHUNK), workers.map(_render_chunk, range(0, count, _CHUNK)), strict=True
                ):
                    pictures[first : first + _CHUNK] = chunk
            pictures.flush()
            del pictures
            aside.replace(path)
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
        """Random seeds and their pictures."""
        seeds = torch.randint(self.count, (size,), generator=generator)
        return seeds, self[seeds]
