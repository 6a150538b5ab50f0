"""What was behind an object, taken from frames in which it is seen, along the motion of what surrounds the object.

The background moves as an affine map that most of the flow outside the object agrees on, and, near places where flow is
known, by what that map misses there. Going through the clip once forwards and once backwards, each hidden place takes
what the frame before (or after) shows or took, so that it comes from the frame in which it was last (or is next) in
sight. Of both the nearer in time counts more. What is never seen is made up in one frame from what lies around it
(Bertalmio et al., CVPR 2001: OpenCV's Navier-Stokes inpainting), and carried along from there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenreel.ops.dense_flow import DenseFlow, Field, Grey
from evenreel.scratch import room

Picture = NDArray[np.uint8]
"""RGB, (height, width, 3)."""
Mask = NDArray[np.bool_]
"""Which places are hidden, (height, width)."""
Levels = NDArray[np.float32]
"""RGB in levels from 0 to 255, (height, width, 3)."""

SIDE = 512
"""Shorter side, at most, of the pictures whose flow is estimated."""
NEAR = 15.0 / 128
"""Standard deviation, in shorter sides of a picture, of the neighbourhood whose flow says how the map is missed."""
HOME = 0.5
"""Square of the pixels by which going there and back may miss home, where flow counts."""
UNSEEN = 60_000
"""Age, in frames, of what has not been seen."""
RADIUS = 3
"""Pixels around a place that inpainting looks at."""


@dataclass(frozen=True)
class _Seen:
    """The background as one pass through a clip knows it by now."""

    picture: Levels
    known: Mask
    age: NDArray[np.float32]
    """For how many frames each place has been hidden; 0 where it is in sight."""


class _Motion:
    """Where the background of a picture lies in another one."""

    def __init__(self) -> None:
        import cv2

        self.cv2: Any = cv2
        self._flow = DenseFlow()

    def small(self, picture: Picture) -> Grey:
        """Return the luma of a picture at the size at which flow is estimated."""
        grey = self._flow.grey(picture)
        share = min(1.0, SIDE / min(grey.shape))
        if share == 1.0:
            return grey
        size = round(grey.shape[1] * share), round(grey.shape[0] * share)
        return self.cv2.resize(grey, size, interpolation=self.cv2.INTER_AREA)

    def places(self, one: Grey, other: Grey, hidden: Mask) -> Field:
        """Return where each place of a picture is in another, as if nothing were `hidden` in the first.

        Pictures are as `small` has them, and the result has the size of `hidden`.
        """
        cv2, (height, width) = self.cv2, one.shape
        grid = places_of(height, width)
        flow = self._flow.between(one, other)
        back = taken(cv2, self._flow.between(other, one), grid + flow)
        cover = cv2.resize(hidden.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
        cover = cv2.dilate(cover.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        known = ~cover & (np.square(flow + back).sum(-1) < HOME)
        moved = self._mapped(grid, flow, known)
        if self._rests(one, other, grid + moved, known):
            return places_of(*hidden.shape)
        weight = known.astype(np.float32)[..., None]
        sigma = NEAR * min(height, width)
        misses = cv2.GaussianBlur((flow - moved) * weight, (0, 0), sigma)
        moved = moved + misses / (cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + 1e-3)
        rows, columns = hidden.shape
        if hidden.shape != one.shape:
            moved = cv2.resize(moved, (columns, rows)) * np.array(
                [columns / width, rows / height], np.float32
            )
        return places_of(rows, columns) + moved

    def _rests(self, one: Grey, other: Grey, places: Field, known: Mask) -> bool:
        """Whether the camera stands still: what is known differs no less where the map leads than in its own place."""
        levels = one.astype(np.float32)
        led = np.abs(levels - taken(self.cv2, other.astype(np.float32), places))[known]
        return not known.any() or bool(np.abs(levels - other)[known].mean() <= led.mean())

    def _mapped(self, grid: Field, flow: Field, known: Mask) -> Field:
        """The affine motion that most known flow agrees on; none where too little is known."""
        some = known[::4, ::4]
        if some.sum() < 12:
            return np.zeros_like(flow)
        starts = grid[::4, ::4][some]
        self.cv2.setRNGSeed(0)
        found, _ = self.cv2.estimateAffine2D(
            starts, starts + flow[::4, ::4][some], method=self.cv2.RANSAC, ransacReprojThreshold=0.5
        )
        if found is None:
            return np.zeros_like(flow)
        return (grid @ found[:, :2].T + found[:, 2] - grid).astype(np.float32)


def filled(pictures: Tensor, hidden: Tensor) -> Iterator[Picture]:
    """Yield the pictures of a scene without what is `hidden`; all other places stay as they are, bit for bit.

    pictures: uint8 (frames, height, width, 3). hidden: bool (frames, height, width). Both may lie on maps of files, and
    what is made on the way does; pictures pass one by one. Raises: ImportError where OpenCV is not installed, FlowError
    for pictures that are too small.
    """
    motion = _Motion()
    after, ages = room(pictures.shape, torch.uint8), room(hidden.shape, torch.int32)
    for number, seen in _pass(motion, pictures, hidden, range(len(pictures) - 1, -1, -1)):
        after[number] = torch.from_numpy(_levels(seen.picture))
        ages[number] = torch.from_numpy(np.where(seen.known, seen.age, UNSEEN).astype(np.int32))
    result: Picture | None = None
    for number, seen in _pass(motion, pictures, hidden, range(len(pictures))):
        picture, hole = pictures[number].numpy(), hidden[number].numpy()
        later, age = after[number].numpy().astype(np.float32), ages[number].numpy()
        before_counts = np.where(seen.known, 1 / np.square(np.maximum(seen.age, 1)), 0)
        later_counts = np.where(age < UNSEEN, 1 / np.square(np.maximum(age, 1).astype(np.float32)), 0)
        total = before_counts + later_counts
        share = (before_counts / np.maximum(total, 1e-12))[..., None]
        mixed = _levels(share * seen.picture + (1 - share) * later)
        found = np.where((hole & (total > 0))[..., None], mixed, picture)
        made_up = hole & (total == 0)
        if made_up.any():
            found = _made_up(motion, found, made_up, result, pictures, hidden, number)
        result = found
        yield result


def _pass(
    motion: _Motion, pictures: Tensor, hidden: Tensor, order: Sequence[int]
) -> Iterator[tuple[int, _Seen]]:
    """Go through a scene in some order, and tell what is known of the background at each picture."""
    seen: _Seen | None = None
    grey: Grey | None = None
    for number in order:
        picture, hole = pictures[number].numpy(), hidden[number].numpy()
        now = motion.small(picture)
        levels, known = picture.astype(np.float32), ~hole
        age = np.zeros(hole.shape, np.float32)
        if seen is not None and grey is not None and hole.any():
            places = motion.places(now, grey, hole)
            there = (
                hole & _inside(places) & (taken(motion.cv2, seen.known.astype(np.float32), places) > 0.999)
            )
            levels[there] = taken(motion.cv2, seen.picture, places)[there]
            age[there] = taken(motion.cv2, seen.age, places)[there] + 1
            known = known | there
        seen, grey = _Seen(levels, known, age), now
        yield number, seen


def _made_up(
    motion: _Motion,
    picture: Picture,
    unseen: Mask,
    before: Picture | None,
    pictures: Tensor,
    hidden: Tensor,
    number: int,
) -> Picture:
    """Fill what is never seen: as in the result before, where that has the place, and from around it elsewhere."""
    found = picture.copy()
    left = unseen
    if before is not None:
        now, earlier = (motion.small(pictures[place].numpy()) for place in (number, number - 1))
        places = motion.places(now, earlier, hidden[number].numpy())
        there = unseen & _inside(places)
        found[there] = _levels(taken(motion.cv2, before.astype(np.float32), places))[there]
        left = unseen & ~there
    if left.any():
        cv2 = motion.cv2
        found = cv2.inpaint(np.ascontiguousarray(found), left.astype(np.uint8), RADIUS, cv2.INPAINT_NS)
        found[~unseen] = picture[~unseen]
    return found


def places_of(height: int, width: int) -> Field:
    """Return the place (x, y) of each pixel."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], -1)


def taken(cv2: Any, values: NDArray[Any], places: Field) -> NDArray[Any]:
    """Return what lies at some places, between pixels the bilinear mean."""
    x, y = (np.ascontiguousarray(places[..., axis], dtype=np.float32) for axis in (0, 1))
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _inside(places: Field) -> Mask:
    height, width = places.shape[:2]
    x, y = places[..., 0], places[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _levels(values: NDArray[Any]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
