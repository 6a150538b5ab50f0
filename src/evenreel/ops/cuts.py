"""Where a clip cuts from one scene to another: a sudden change that is more than a flash, a fade or fast motion.

The measure is that of PySceneDetect's content detector: the mean change of hue, saturation and brightness from frame to
frame. As in its adaptive detector a cut must stand out from its neighbours. Unlike there, hue and saturation count by
how bright a place is, and hue by how colourful, in the frame that has less of it: what is black has no hue that could
change, so that the end of a fade is not a cut.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from jaxtyping import Float
from torch import Tensor

from evenreel.types import Frames

THRESHOLD = 18.0
"""Mean change of hue, saturation and brightness from which a frame may begin a scene, in levels of 255."""
BESIDE = 1 / 3
"""Share of a change from which those of the frames beside it belong to the same transition."""
SUDDEN = 2
"""Frames that a cut takes, at most: one, or two where a frame is blended from both scenes. What takes longer is a fade,
or motion."""
FLASH = 6
"""Frames on either side of a cut, none of which may look like one on the other side: what comes back was not cut."""
SIDE = 48
"""Shorter side of the pictures that are compared, at most."""

Colours = Float[Tensor, "3 height width"]
"""Hue, saturation and brightness, each from 0 to 1; hue is cyclic."""


class CutFinder:
    """Finds the cuts of a clip whose frames pass by."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._held: list[Colours] = []
        self._first = 0
        self._changes: list[float] = []
        self._found: list[int] = []
        self._asked = 1

    def see(self, frames: Frames) -> None:
        """Look at the next frames of the clip, in their order."""
        for colours in hsv(_small(frames)):
            self._changes.append(change(self._held[-1], colours) if self._held else 0.0)
            self._held.append(colours)
            self._ask(len(self._changes) - FLASH)
            if gone := max(0, self._asked - FLASH - self._first):
                self._held, self._first = self._held[gone:], self._first + gone

    def cuts(self) -> list[int]:
        """Return the numbers of the frames seen, from 0, at which another scene begins; the clip has ended."""
        self._ask(len(self._changes))
        return self._found

    def _ask(self, end: int) -> None:
        """Decide of frames up to `end`, all of whose neighbours are there."""
        while self._asked < end:
            if self._is_cut(self._asked):
                self._found.append(self._asked)
            self._asked += 1

    def _is_cut(self, frame: int) -> bool:
        changed = self._changes[frame]
        if changed < self.threshold or self._beside(frame, -1):
            return False  # of a transition, the first frame counts
        taken = 1 + self._beside(frame, 1)
        if taken > SUDDEN:
            return False
        place = frame - self._first
        before, after = self._held[max(0, place - FLASH) : place], self._held[place + taken - 1 :][:FLASH]
        return all(change(one, other) >= self.threshold / 2 for one in before for other in after)

    def _beside(self, frame: int, way: int) -> int:
        """How many frames before (-1) or behind (1) belong to the same transition, as far as it matters."""
        count = 0
        while count < SUDDEN and 0 < frame + way * (count + 1) < len(self._changes):
            if self._changes[frame + way * (count + 1)] < BESIDE * self._changes[frame]:
                break
            count += 1
        return count


def change(one: Colours, other: Colours) -> float:
    """Return the mean change of hue, saturation and brightness between two pictures, in levels of 255."""
    apart = (one - other).abs()
    hue = 2 * torch.minimum(apart[0], 1 - apart[0])
    saturation, brightness = torch.minimum(one[1], other[1]), torch.minimum(one[2], other[2])
    return 255 * float((hue * saturation * brightness + apart[1] * brightness + apart[2]).mean() / 3)


def hsv(frames: Frames) -> Float[Tensor, "frames 3 height width"]:
    """Return hue, saturation and brightness of frames, each from 0 to 1."""
    brightest, which = frames.max(1)
    spread = brightest - frames.amin(1)
    red, green, blue = frames.unbind(1)
    safe = spread.clamp(min=1e-6)
    turns = torch.stack([(green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe], 1)
    hue = turns.gather(1, which[:, None])[:, 0] / 6 % 1
    return torch.stack([hue, spread / brightest.clamp(min=1e-6), brightest], 1)


def _small(frames: Frames) -> Float[Tensor, "frames 3 rows columns"]:
    shorter = min(frames.shape[2:])
    if shorter <= SIDE:
        return frames.float()
    size = [max(1, round(side * SIDE / shorter)) for side in frames.shape[2:]]
    return F.interpolate(frames.float(), size, mode="area")
