"""Which frames of a clip are keyframes at a step, and which of the others take tokens from which of them.

TokenFlow (arXiv:2307.10373, section 4), and what its published implementation does instead.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from evenreel import random

KeyframeDraw = Callable[[int, int], Sequence[int]]
"""(step_index, frames in the clip) -> the keyframes of that step, ascending, one in each window."""


@dataclass(frozen=True)
class Flow:
    """What one keyframe gives to some frames of a batch."""

    keyframe: int
    """Its index in the clip."""
    rows: tuple[int, ...]
    """The frames that take tokens from it, as positions in the batch."""
    weights: tuple[float, ...]
    """The share that each of them takes; the shares that a frame takes add up to 1."""


@dataclass(frozen=True)
class Stage:
    """A part of a step: keyframes are computed together, then frames that need none of those to come."""

    keyframes: tuple[int, ...]
    """They attend to one another, and to those of the first stage."""
    ready: tuple[int, ...]
    """The frames whose keyframes are there, keyframes among them."""
    past: tuple[int, ...]
    """Keyframes that no later stage needs."""


def windows(frames: int, size: int) -> list[range]:
    """Return the fewest windows of at most `size` frames, as equal in length as can be."""
    count = math.ceil(frames / size)
    ends = [frames * (index + 1) // count for index in range(count)]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def random_draw(seed: int, size: int) -> KeyframeDraw:
    """Return one random frame of each window, from a generator for each step: equal seeds give equal keyframes."""

    def draw(step_index: int, frames: int) -> tuple[int, ...]:
        generator = random.generator(seed, step_index)
        return tuple(
            window[int(torch.randint(len(window), (), generator=generator))]
            for window in windows(frames, size)
        )

    return draw


def stages(keyframes: Sequence[int], frames: int, together: int) -> Iterator[Stage]:
    """Cut a step so that at most `together` keyframes are computed at once, and few are held.

    The first stage has keyframes from all over the clip, which all later ones see too, so that the clip has one look;
    the later ones go along the clip. With no more than `together` keyframes there is one stage.
    """
    count, first = len(keyframes), tuple(keyframes)
    if count > together:
        first = tuple(keyframes[(2 * i + 1) * count // (2 * together)] for i in range(together))
    rest = [keyframe for keyframe in keyframes if keyframe not in first]
    groups = [first, *(tuple(rest[i : i + together]) for i in range(0, len(rest), together))]
    done = 0
    held: list[int] = []
    for index, group in enumerate(groups):
        missing = min((later[0] for later in groups[index + 1 :]), default=frames)
        # The last keyframe before a missing one is wanted again, by the frames between the two.
        latest = max((keyframe for keyframe in keyframes if keyframe < missing), default=-1)
        end = latest + 1 if missing < frames else frames
        held += group if index else ()
        past = tuple(keyframe for keyframe in held if keyframe < latest or missing == frames)
        yield Stage(keyframes=group, ready=tuple(range(done, end)), past=past)
        done, held = end, [keyframe for keyframe in held if keyframe not in past]


def between(batch: Sequence[int], keyframes: Sequence[int]) -> tuple[Flow, ...]:
    """Let a frame take from the keyframes on both sides, from each the more the nearer it is, linearly in time."""
    shares: list[dict[int, float]] = []
    for frame in batch:
        after = bisect_right(keyframes, frame)
        before, behind = keyframes[max(0, after - 1)], keyframes[min(after, len(keyframes) - 1)]
        if before >= frame or before == behind:
            shares.append({before: 1.0})
        else:
            share = (frame - before) / (behind - before)
            shares.append({behind: share, before: 1 - share})
    return _by_keyframe(shares)


def published_flows(
    batch: Sequence[int], keyframes: Sequence[int], clip_windows: Sequence[range]
) -> tuple[Flow, ...]:
    """Let a frame take from its own window's keyframe and from the one before, never from the one behind.

    The weights see the middles of the two windows, not the keyframes, and lie between 0.5 and 0.73: they are the
    sigmoid of a share.
    """
    centres = [window.start + len(window) // 2 for window in clip_windows]
    starts = [window.start for window in clip_windows]
    shares: list[dict[int, float]] = []
    for frame in batch:
        own = bisect_right(starts, frame) - 1
        if own == 0:
            shares.append({keyframes[0]: 1.0})
            continue
        to_own, to_last = abs(frame - centres[own]), abs(frame - centres[own - 1])
        weight = 1 / (1 + math.exp(-to_last / (to_own + to_last)))
        shares.append({keyframes[own]: weight, keyframes[own - 1]: 1 - weight})
    return _by_keyframe(shares)


def _by_keyframe(shares: Sequence[dict[int, float]]) -> tuple[Flow, ...]:
    flows: list[Flow] = []
    for keyframe in sorted({keyframe for share in shares for keyframe in share}):
        rows = tuple(row for row, share in enumerate(shares) if keyframe in share)
        flows.append(Flow(keyframe, rows, tuple(shares[row][keyframe] for row in rows)))
    return tuple(flows)
