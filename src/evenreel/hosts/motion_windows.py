"""Windows in which motion modules see a clip: overlapping, moved from step to step, and fused without a seam.

Offsets follow ordered halving and weights are pyramids, as in ComfyUI-AnimateDiff-Evolved's context windows.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

from evenreel.errors import SettingsError, argument
from evenreel.scratch import room_like
from evenreel.types import Latents

_HALVINGS = 16
"""Bits of a step's number that are turned round."""


@runtime_checkable
class FrameSwitch(Protocol):
    """What motion modules must know of the next network call."""

    frames: int
    """How many frames pass together: rows of a call are (branches frames), frames innermost."""
    is_on: bool
    """Whether the modules are at work."""


class Window(NamedTuple):
    """Frames that pass together, and how much of what is computed for each of them counts."""

    frames: tuple[int, ...]
    """Indices in the clip, ascending; without gaps, but for frames that pass apart."""
    weights: tuple[float, ...]
    """Above 0; those that a frame has in all windows add up to 1."""


@dataclass(frozen=True, kw_only=True)
class MotionWindows:
    """Motion modules at work in a model, and the windows of a clip that pass through it."""

    switch: FrameSwitch
    """Of the modules; off between calls of `passing`."""
    most: int
    """The most frames that the modules know."""
    size: int = 16
    """Frames of a window."""
    overlap: int = 2
    """Frames that neighbouring windows share."""
    timesteps: Sequence[int]
    """Those of the run, descending: windows move from each to the next. The same timestep has the same windows, in the
    inversion and in the sampling."""
    apart: frozenset[int] = frozenset()
    """Frames that are of one colour: they say nothing of how things move, and pass by themselves."""

    def cut(self, frames: int, timestep: int) -> list[Window]:
        """Return the windows of a clip at a timestep, along the clip; last those of frames that pass apart."""
        step = sum(timestep < other for other in self.timesteps)
        moved = [frame for frame in range(frames) if frame not in self.apart]
        if not moved:
            moved = list(range(frames))
        groups = [moved, [frame for frame in range(frames) if frame not in set(moved)]]
        return [
            Window(tuple(group[row] for row in rows), weights)
            for group in groups
            if group
            for rows, weights in overlapping(
                len(group), self.size, min(self.overlap, self.size - 1), halving(step)
            )
        ]

    @contextmanager
    def passing(self, frames: int) -> Generator[None]:
        """Let the modules work inside, in network calls with so many frames; a single frame is a picture without."""
        self.switch.frames, self.switch.is_on = frames, frames > 1
        try:
            yield
        finally:
            self.switch.is_on = False

    def whole(self, frames: int) -> "MotionWindows":
        """Return the same for a host that lets all frames of a clip pass at once. Raises: SettingsError."""
        if frames > self.most:
            raise SettingsError(
                f"all {frames} frames must pass together and the motion modules know at most {self.most}; "
                f"choose fewer {argument('frames')}, or {argument('motion')} off."
            )
        return replace(self, size=frames, apart=frozenset())


def predict_fused(
    latents: Latents, windows: Sequence[Window], predict: Callable[[Window], Latents]
) -> Latents:
    """Predict the noise of windows and add it up, weighted, for a whole clip of `latents`."""
    if len(windows) == 1:
        return predict(windows[0])
    total = room_like(latents).zero_()
    for window in windows:
        weights = total.new_tensor(window.weights).view(-1, 1, 1, 1)
        total[list(window.frames)] += weights * predict(window).to(total)
    return total


def overlapping(frames: int, size: int, overlap: int, shift: float) -> list[Window]:
    """Return windows of at most `size` frames that share `overlap` with the next, moved by a share `shift` of their
    distance.

    Where the clip begins or ends inside a window, it is cut; what is left has at least half of `size`. Weights rise
    from seams towards the middle, and fall nowhere towards the clip's own ends.
    """
    if frames <= size:
        return [Window(tuple(range(frames)), (1.0,) * frames)]
    distance = size - overlap
    offset = int(shift * distance)
    spans = [
        _span(start, size, frames)
        for start in range(offset - distance if offset else 0, frames - overlap, distance)
    ]
    # the span of a short first or last window may hold its neighbour's
    heights = [_pyramid(first, end, frames) for first, end in spans]
    sums = [0.0] * frames
    for (first, _), height in zip(spans, heights, strict=True):
        for position, value in enumerate(height, first):
            sums[position] += value
    return [
        Window(
            tuple(range(first, end)),
            tuple(value / sums[position] for position, value in enumerate(height, first)),
        )
        for (first, end), height in zip(spans, heights, strict=True)
    ]


def halving(step: int) -> float:
    """Return the place in [0, 1) of a step whose number's bits are turned round: 0, 1/2, 1/4, 3/4, 1/8, 5/8, ...

    Steps in a row lie far apart, and all together evenly (van der Corput's sequence).
    """
    turned = 0
    for bit in range(_HALVINGS):
        turned |= (step >> bit & 1) << (_HALVINGS - 1 - bit)
    return turned / 2**_HALVINGS


def _span(start: int, size: int, frames: int) -> tuple[int, int]:
    first, end = max(0, start), min(frames, start + size)
    least = max(1, size // 2)
    if start < 0:
        return 0, max(end, least)
    return min(first, frames - least), end


def _pyramid(first: int, end: int, frames: int) -> list[float]:
    """Distances to the nearer of those ends that are seams."""
    return [
        float(
            min(
                position - first + 1 if first > 0 else end,
                end - position if end < frames else frames,
            )
        )
        for position in range(first, end)
    ]
