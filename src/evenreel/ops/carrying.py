"""A mask that is painted on one picture of a clip, carried to the pictures that follow it.

Two estimates meet in each picture. One follows the flow back to the painted picture itself: it does not drift, as long
as things look as they did there. The other follows the flow to the picture before, and what was found there: it goes
on where things have turned or changed their light. The one whose colours fit better counts. Where neither fits, and at
the outline, colours decide (GrabCut: Rother et al., SIGGRAPH 2004), so that the mask does not leak into what appears
from behind the object. Any order of pictures will do: backwards from the painted one, too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenreel.ops.dense_flow import DenseFlow, Field

Picture = NDArray[np.uint8]
"""RGB, (height, width, 3)."""
Mask = NDArray[np.bool_]
"""What belongs to the object, (height, width)."""
Levels = NDArray[np.float32]
"""A number for each place, (height, width)."""

BAND = 1 / 120
"""Half the width of the strip along the outline in which colours decide, in shorter sides of the picture."""
UNFIT = 15.0
"""Mean difference of colours, in levels of 255, from which flow has not found what it followed."""
SAME = 2.0
"""Difference up to which a place looks as in the painted picture, and is what it was there."""
HANDICAP, SLOPE = 6.0, 3.0
"""Levels by which the way back to the painted picture may fit worse than that to the picture before, and still counts
for half; and over how many more that changes by a factor of e."""
LOOSE = 0.3
"""Share of a separate part that must come from where the mask was; other parts are lookalikes, and let go."""
CRUMB = 0.02
"""Share of the largest part below which a part is dropped."""
CERTAIN_PIXELS = 10
"""Pixels on either side without which colours cannot decide."""


class Carrier:
    """Carries a mask from picture to picture."""

    def __init__(self, picture: Picture, mask: Mask) -> None:
        """`mask` is what was painted on `picture`. Raises ImportError where OpenCV is not installed."""
        import cv2

        self._cv2: Any = cv2
        self._flow = DenseFlow()
        height, width = mask.shape
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self._places = np.stack([x, y], -1)
        self._band = max(1, round(BAND * min(height, width)))
        self._painted = self._before = picture
        self._painted_grey = self._grey = self._flow.grey(picture)
        self._painted_mask = self._mask = mask.astype(np.float32)
        self._home = self._places
        """For each place of the last picture, where it is in the painted one."""

    def next(self, picture: Picture) -> Mask:
        """Return the mask of the next picture."""
        grey = self._flow.grey(picture)
        back = self._flow.between(grey, self._grey)
        before = self._places + back
        hidden = self._is_new(back, self._flow.between(self._grey, grey))
        home = self._way_home(picture, grey, before)
        home_misses = self._misses(self._painted, home, picture)
        before_misses = self._misses(self._before, before, picture)
        carried = self._taken(self._mask, before)
        trust = 1 / (1 + np.exp((home_misses - before_misses - HANDICAP) / SLOPE))
        soft = trust * self._taken(self._painted_mask, home) + (1 - trust) * carried
        unsure = (np.minimum(home_misses, before_misses) > UNFIT) | (hidden & (home_misses > UNFIT / 2))
        mask = self._by_colour(picture, soft > 0.5, unsure, home_misses < SAME)
        mask = self._without_strays(mask, carried > 0.5)
        if mask.any():  # what is out of sight comes back where it was
            self._mask = mask.astype(np.float32)
        self._before, self._grey, self._home = picture, grey, home
        return mask

    def _way_home(self, picture: Picture, grey: Picture, before: Field) -> Field:
        """Where each place is in the painted picture: as the picture before says, or as a search from there finds."""
        guess = self._taken(self._home, before)
        found = self._places + self._flow.between(grey, self._painted_grey, guess - self._places)
        better = self._misses(self._painted, found, picture) < self._misses(self._painted, guess, picture)
        return np.where(better[..., None], found, guess)

    def _is_new(self, back: Field, forward: Field) -> Mask:
        """Whether going to the picture before and back again misses home, by the bound of `ops.warp`."""
        returned = self._taken(forward, self._places + back)
        off = np.square(back + returned).sum(-1)
        return off >= 0.01 * (np.square(back).sum(-1) + np.square(returned).sum(-1)) + 0.5

    def _misses(self, other: Picture, places: Field, picture: Picture) -> Levels:
        """By how many levels a picture differs from what lies at `places` of another, in the mean around each place."""
        apart = np.abs(self._taken(other, places).astype(np.float32) - picture).mean(-1)
        return self._cv2.blur(apart, (5, 5))

    def _taken(self, values: NDArray[Any], places: Field) -> NDArray[Any]:
        x, y = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
        return self._cv2.remap(values, x, y, self._cv2.INTER_LINEAR, borderMode=self._cv2.BORDER_REPLICATE)

    def _by_colour(self, picture: Picture, mask: Mask, unsure: Mask, same: Mask) -> Mask:
        """Let colours decide along the outline and where flow is unsure, but not where all is as it was painted."""
        side = 2 * self._band + 1
        disc = self._cv2.getStructuringElement(self._cv2.MORPH_ELLIPSE, (side, side))
        near = self._cv2.dilate(mask.astype(np.uint8), disc) > 0
        inner = self._cv2.erode(mask.astype(np.uint8), disc) > 0
        known = np.where(near, (same & ~unsure) | (inner & ~unsure), True)
        if not (near & ~known).any():
            return mask
        labels = np.where(
            mask,
            np.where(known, self._cv2.GC_FGD, self._cv2.GC_PR_FGD),
            np.where(known, self._cv2.GC_BGD, self._cv2.GC_PR_BGD),
        ).astype(np.uint8)
        rows, columns = np.nonzero(near)
        margin = 6 * self._band + 8
        part = (
            slice(max(0, int(rows.min()) - margin), int(rows.max()) + margin + 1),
            slice(max(0, int(columns.min()) - margin), int(columns.max()) + margin + 1),
        )
        cut = np.ascontiguousarray(labels[part])
        if min((cut == one).sum() for one in (self._cv2.GC_FGD, self._cv2.GC_BGD)) < CERTAIN_PIXELS:
            return mask
        self._cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        self._cv2.grabCut(
            np.ascontiguousarray(picture[part]), cut, None, *models, 1, self._cv2.GC_INIT_WITH_MASK
        )
        decided = np.zeros_like(mask)
        decided[part] = (cut == self._cv2.GC_FGD) | (cut == self._cv2.GC_PR_FGD)
        return decided

    def _without_strays(self, mask: Mask, carried: Mask) -> Mask:
        """Drop parts that are crumbs, or that do not come from where the mask was."""
        count, labels, figures, _ = self._cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        if count < 3:
            return mask
        near = self._cv2.dilate(carried.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        areas = figures[:, self._cv2.CC_STAT_AREA]
        shared = np.bincount(labels[near], minlength=count)
        kept = (areas >= CRUMB * areas[1:].max()) & (shared > LOOSE * areas)
        kept[0] = False
        return kept[labels]
