"""Batches out of shards, each a function of (seed, step) alone, so that a training that resumes gets the same again.

All groups of frames are shuffled together once an epoch, by (seed, epoch), and the batch of a step is the next stretch
of that order; several processes share it between them. So one process with a batch of 8 and two with 4 each see the
same groups at the same step, with the same captions and seeds.
"""

import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.errors import DataError, SettingsError
from evenreel.files import shown
from evenreel.training.data.manifest import Manifest, read_manifest
from evenreel.training.data.pictures import decoded, unpacked_depth, unpacked_flow
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.shard_file import Index, indexed


@dataclass(frozen=True, kw_only=True)
class Group:
    """One sample: frames of one clip and what is known of them."""

    key: str
    frames: Float[Tensor, "frames 3 height width"]
    """RGB in [0, 1]."""
    maps: dict[str, Tensor]
    """`canny` and `depth`: (frames, 1, height, width) in [0, 1]; `pose`: (frames, 3, height, width), the same;
    `flow`: (frames - 1, 2, height, width) in pixels."""
    facts: dict[str, Any]
    """The sample's JSON: clip, captions, variations, frames, times, fps, source, and for the world scene."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Groups of frames for one step of one process."""

    frames: Float[Tensor, "pairs frames 3 height width"]
    """RGB in [0, 1]."""
    captions: tuple[str, ...]
    """One for each group, drawn from all that its clip has."""
    seeds: tuple[int, ...]
    """One for each group, for noise and timesteps that do not depend on how processes share the batch."""
    keys: tuple[str, ...]
    """Names of the samples."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    """As in `Group`, stacked."""
    facts: tuple[dict[str, Any], ...] = ()
    """As in `Group`, one for each."""


DrawBatch = Callable[[int], Batch]
"""The samples of a number: always the same ones."""


class ShardedData:
    """The groups of frames of a data set, read where they lie: opening it reads headers only.

    A shard is hashed when the first of its groups is read, so that no training goes on with other data than was built.
    `maps` names what is wanted beside the frames. Raises DataError for a data set that is unfinished, empty or damaged,
    or has no such maps.
    """

    def __init__(self, folder: Path, *, maps: Sequence[str] = ()) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.settings: DataSettings = self.manifest.settings
        self.maps = tuple(maps)
        if missing := [name for name in maps if name not in self.settings.maps]:
            option = "--flow" if missing[0] == "flow" else f"--control {missing[0]}"
            raise DataError(
                f"{shown(folder)} holds no {missing[0]} maps; build it with `evenreel data build ... {option}`."
            )
        if not self.manifest.complete:
            raise DataError(
                f"{shown(folder)} is unfinished ({len(self.manifest.shards)} of {self.manifest.shard_count} shards); "
                "run the same `evenreel data build` again."
            )
        self._shards = [
            self._opened(shard.file, shard.bytes, shard.samples) for shard in self.manifest.shards
        ]
        self._ends = list(accumulate(len(shard.keys) for shard in self._shards))
        if not len(self):
            raise DataError(f"{shown(folder)} holds no samples; its manifest says why clips were left out.")
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._hashed: set[int] = set()
        self._hashing = Lock()  # batches are read by several threads

    def _opened(self, name: str, size: int, samples: int) -> Index:
        path = self.folder / name
        index = indexed(path, self.settings.members)
        if path.stat().st_size != size or len(index.keys) != samples:
            raise DataError(
                f"{shown(path)} is not the file that was built ({len(index.keys)} of {samples} samples); "
                "delete it and run the build again."
            )
        return index

    def __len__(self) -> int:
        """Groups of frames in all shards."""
        return self._ends[-1] if self._ends else 0

    def _found(self, number: int) -> tuple[Index, int]:
        shard = int(np.searchsorted(self._ends, number, side="right"))
        if shard not in self._hashed:
            with self._hashing:
                self._check_hash(shard)
        return self._shards[shard], number - (self._ends[shard] - len(self._shards[shard].keys))

    def _check_hash(self, shard: int) -> None:
        if shard in self._hashed:
            return
        path = self._shards[shard].path
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{shown(path)} cannot be read ({error.strerror}); check the disk, or build it again."
            ) from error
        if digest != self.manifest.shards[shard].sha256:
            raise DataError(
                f"{shown(path)} is not what was built (its hash differs); delete it and run the build again."
            )
        self._hashed.add(shard)

    def __getitem__(self, number: int) -> Group:
        """One group by its place in the shards. Raises DataError where it is damaged."""
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        index, row = self._found(number % len(self))
        reader = SampleReader(index, row, self.settings)
        return Group(
            key=reader.key,
            frames=reader.frames(),
            maps={name: reader.maps(name) for name in self.maps},
            facts=reader.facts(),
        )

    def captions(self) -> Iterator[tuple[str, str]]:
        """Yield (clip, caption) for all captions and other wordings, each clip once; no picture is decoded."""
        seen: set[str] = set()
        for index in self._shards:
            for row in range(len(index.keys)):
                facts = SampleReader(index, row, self.settings, only=("json",)).facts()
                if facts["clip"] not in seen:
                    seen.add(facts["clip"])
                    for caption in (*facts["captions"], *facts["variations"]):
                        yield facts["clip"], caption

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        # NumPy promises the stream of a bit generator for good
        return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(self))

    def batch(
        self,
        step: int,
        size: int,
        *,
        seed: int = 0,
        process: int = 0,
        processes: int = 1,
        variations: bool = True,
    ) -> Batch:
        """Return the groups that one process takes at a step: `size` of the `size * processes` that all take together.

        The last groups of an epoch and the first of the next share a batch where they must; none is left out. Without
        `variations` only the captions that came with the clips are drawn. Raises DataError for damaged samples.
        """
        if step < 0 or size < 1 or not 0 <= process < processes:
            raise SettingsError(
                f"a batch needs step >= 0, size >= 1 and 0 <= process < processes, got {step}, {size}, {process}, "
                f"{processes}."
            )
        first = (step * processes + process) * size
        places = range(first, first + size)
        groups = [self[int(self._order(seed, place // len(self))[place % len(self)])] for place in places]
        draws = [random.Random(f"evenreel batch {seed} {place}") for place in places]
        seeds = tuple(rng.getrandbits(62) for rng in draws)
        return Batch(
            frames=torch.stack([group.frames for group in groups]),
            captions=tuple(
                _caption(group.facts, rng, variations) for group, rng in zip(groups, draws, strict=True)
            ),
            seeds=seeds,
            keys=tuple(group.key for group in groups),
            maps={name: torch.stack([group.maps[name] for group in groups]) for name in self.maps},
            facts=tuple(group.facts for group in groups),
        )

    def batches(
        self, steps: Iterable[int], size: int, *, threads: int = 2, ahead: int = 4, **details: Any
    ) -> Iterator[tuple[int, Batch]]:
        """Yield (step, batch) for each of `steps`; threads make up to `ahead` of them while one is used.

        `details` are those of `batch`. Leaving the loop throws away what was read ahead.
        """
        pool = ThreadPoolExecutor(threads, thread_name_prefix="shards")
        coming: deque[tuple[int, Future[Batch]]] = deque()
        waiting = iter(steps)
        try:
            while True:
                for step in islice(waiting, ahead - len(coming)):
                    coming.append((step, pool.submit(self.batch, step, size, **details)))
                if not coming:
                    return
                step, batch = coming.popleft()
                yield step, batch.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class SampleReader:
    """Decodes the members of one sample; a DataError names the one that is damaged."""

    def __init__(
        self, index: Index, row: int, settings: DataSettings, *, only: Sequence[str] | None = None
    ) -> None:
        """`only` names the members that are read at all."""
        self.key = index.keys[row]
        self.members = index.read(row, only)
        self._settings = settings
        self._where = f"{shown(index.path)}: {self.key}"

    def _picture(self, member: str, mode: str, rows: int = 1) -> np.ndarray:
        width, height = self._settings.size
        try:
            return decoded(self.members[member], (width, rows * height), mode)
        except DataError as error:
            raise DataError(
                f"{self._where}.{member} {error}; delete the shard and run the build again."
            ) from error

    def frames(self) -> Float[Tensor, "frames 3 height width"]:
        """Return all frames, in [0, 1]."""
        pictures = [self._picture(member, "RGB") for member in self._settings.frame_members]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255

    def maps(self, name: str) -> Float[Tensor, "_ _ height width"]:
        """Return one kind of map, as `Group` has it."""
        members = self._settings.map_members(name)
        if name == "flow":
            return torch.stack([unpacked_flow(self._picture(member, "I;16", rows=2)) for member in members])
        if name == "depth":
            return torch.stack([unpacked_depth(self._picture(member, "I;16")) for member in members])[:, None]
        if name == "pose":
            pictures = [self._picture(member, "RGB") for member in members]
            return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        pictures = [self._picture(member, "L") for member in members]
        return torch.from_numpy(np.stack(pictures))[:, None].float() / 255

    def facts(self) -> dict[str, Any]:
        """Return the JSON, with captions that can be trained on."""
        try:
            facts = json.loads(self.members["json"])
        except (ValueError, RecursionError):
            facts = None
        if not (
            isinstance(facts, dict)
            and all(_is_texts(facts.get(name)) for name in ("captions", "variations"))
            and facts["captions"]
            and isinstance(facts.get("clip"), str)
        ):
            raise DataError(
                f"{self._where}.json is damaged or has no captions; delete the shard and run the build again."
            )
        return facts


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)


def _caption(facts: dict[str, Any], rng: random.Random, variations: bool) -> str:
    return rng.choice(facts["captions"] + (facts["variations"] if variations else []))
