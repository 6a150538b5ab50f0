"""How VidToMe cuts a clip into chunks at each step, and everything in it that is left to chance."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from evenreel import random
from evenreel.hosts.windows import cut

MERGED_TOGETHER = 4
"""Frames that one round of local merging collapses into one."""

_MIX = re.compile(r"^mix(?:-([1-9]\d*))?$")


@dataclass(frozen=True)
class ChunkPlan:
    """The frames of one chunk, and the draws made for it."""

    frames: tuple[int, ...]
    """Indices in the clip, ascending."""
    destinations: tuple[int, ...]
    """For each round of local merging, which frame of every few is merged into."""
    coin: float
    """In [0, 1): whether the chunk's tokens merge into the global ones, or these into them."""


StepPlanner = Callable[..., Sequence[ChunkPlan]]
"""(step_index, frames in the clip, pieces=None) -> the chunks of that step, in the order in which they are computed:
those `pieces` where there are some, else a cut of the planner's own."""


def random_planner(seed: int, size: int, order: str) -> StepPlanner:
    """Draw plans from generators of their own, one for each step: equal seeds give equal plans."""

    def plan(
        step_index: int, frames: int, pieces: Sequence[tuple[int, ...]] | None = None
    ) -> tuple[ChunkPlan, ...]:
        generator = random.generator(seed, step_index)
        first = int(torch.randint(size, (), generator=generator))
        flip = float(torch.rand((), generator=generator))
        pieces = cut(frames, size, first) if pieces is None else pieces
        permutation = [int(place) for place in torch.randperm(len(pieces), generator=generator).unbind()]
        ordered = arrange(pieces, flip, permutation, order)
        return tuple(ChunkPlan(piece, *_chunk_draws(len(piece), generator)) for piece in ordered)

    return plan


def arrange(
    chunks: Sequence[tuple[int, ...]], flip: float, permutation: Sequence[int], order: str
) -> list[tuple[int, ...]]:
    """Return the order in which chunks are computed, and so pass on global tokens.

    `seq`: along the clip, or backwards when `flip` exceeds a half. `rand`: as permuted. `mix-d`: one d-th of the
    chunks as permuted, then the rest along the clip, from the end that is nearer to the last of the first part.
    """
    chunks = list(reversed(chunks)) if flip > 0.5 else list(chunks)
    if order == "seq":
        return chunks
    if order == "rand":
        return [chunks[position] for position in permutation]
    shuffled = len(chunks) // _mix_divisor(order)
    head, tail = list(permutation[:shuffled]), sorted(permutation[shuffled:])
    if head and abs(tail[-1] - head[-1]) < abs(tail[0] - head[-1]):
        tail.reverse()
    return [chunks[position] for position in head + tail]


def is_order(order: str) -> bool:
    """Return whether `arrange` knows an order."""
    return order in ("seq", "rand") or (_MIX.match(order) is not None and _mix_divisor(order) > 1)


def rounds(frames: int, draw: Callable[[int], int]) -> tuple[int, ...]:
    """Return the destinations of all rounds of local merging that collapse a chunk of `frames` into one.

    `draw` gives a frame index below its argument.
    """
    destinations: list[int] = []
    while frames > 1:
        stride = min(MERGED_TOGETHER, frames)
        destinations.append(draw(stride))
        frames = len(range(destinations[-1], frames, stride))
    return tuple(destinations)


def _mix_divisor(order: str) -> int:
    match = _MIX.match(order)
    assert match is not None, "settings check the order"
    return int(match.group(1) or 3)


def _chunk_draws(frames: int, generator: torch.Generator) -> tuple[tuple[int, ...], float]:
    destinations = rounds(frames, lambda stride: int(torch.randint(stride, (), generator=generator)))
    return destinations, float(torch.rand((), generator=generator))
