"""What a difference of two predictions says: which cells a change of prompts is about, and how alike they change.

What counts as a difference is an absolute threshold, learnt on clips whose right answer is known
(benchmarks/regions.py), and so is when everything is meant (docs/regions.md).
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from jaxtyping import Float
from torch import Tensor

from evenreel.ops.regions import Part
from evenreel.scratch import is_long, joined, pieces, piecewise
from evenreel.types import Latents

Difference = Float[Tensor, "frames height width"]
"""Root of the mean square, over channels, of the difference of two noise predictions."""

CALM, BUSY = 0.2, 0.95
"""Shares of a clip's cells: by how much the calmest of them differ, at most, and by how much all but the busiest."""
SPILL = 0.056
"""Of what the busiest cells differ by, how much cells differ by that nobody means: a prompt is read as a whole."""
ALL = 0.018
"""What the calmest cells differ by beyond that, from which on everything is meant: a change of style or background is
one of all places."""
DOUBT = 0.02
"""Difference of the calmest cells beyond which each of several changes is asked for by itself: one of all places may
hide beside a strong one of a part."""
SMALLEST, LEAST = 0.08, 0.02
"""Difference from which a place is meant, where not everything is; and the least, where a change is slight."""
SLIGHT = 0.4
"""Where a change is slight, the share of the busiest cells' difference from which a place is meant."""
MOST = 0.8
"""Share of a clip's cells beyond which everything is meant. To edit too much costs little, and to keep what should
change costs all."""
STRONG = 0.4
"""Of what the busiest cells differ by, the share from which a cell is looked at for how alike such cells change."""


def agreement(differences: Latents) -> float:
    """Tell how alike two predictions differ in the cells where they differ most: 1 is by the same, 0 by nothing common.

    `differences` is that of the predictions, with its channels. What is told is the squared length of the mean over the
    mean of the squared lengths. Another colour takes all cells the same way; another shape takes some to what others
    leave, and texture lies between (docs/motion.md).
    """
    lengths = piecewise(lengths_of, differences)
    least, count, squares = STRONG * busiest(lengths), 0, 0.0
    total = torch.zeros(differences.shape[1], dtype=torch.float64)
    for part in pieces(differences):
        strong = differences[part].float().cpu().movedim(1, -1)[lengths[part] > least].double()
        count += len(strong)
        total += strong.sum(0)
        squares += float(strong.square().sum())
    return float(total.square().sum()) / (count * squares) if squares else 1.0


def lengths_of(differences: Latents) -> Difference:
    """Return how much predictions differ in each cell, of their difference with its channels."""
    return differences.float().square().mean(1).sqrt().cpu()


def averaged(difference: Difference) -> Difference:
    """Average over three neighbours each way, in place and time, or as many as there are."""
    return _along(_averaged, difference)


def _averaged(difference: Difference) -> Difference:
    # Padded before: pooling refuses clips of fewer frames than it looks at.
    both = F.pad(torch.stack([difference, torch.ones_like(difference)])[:, None], (1,) * 6)
    sums, counts = F.avg_pool3d(both, 3, 1)[:, 0]
    return sums / counts


def _grown(part: Part) -> Part:
    return F.max_pool3d(part[None, None].float(), 3, 1, 1)[0, 0] > 0


def _along(function: Callable[[Tensor], Tensor], clip: Tensor) -> Tensor:
    """Compute what looks at the frames beside each, some frames of a clip at a time."""

    def parts() -> Iterator[Tensor]:
        for part in pieces(clip):
            first = max(0, part.start - 1)
            yield function(clip[first : part.stop + 1])[part.start - first :][: part.stop - part.start]

    return joined(parts(), len(clip))


def calmest(difference: Difference) -> float:
    """Return how much those places of a clip differ, at most, that differ least: a share of CALM of all."""
    return smallest_of(difference, math.ceil(CALM * difference.numel()))


def busiest(difference: Difference) -> float:
    """Return how much those places of a clip differ, at least, that differ most: all but a share of BUSY."""
    return smallest_of(difference, math.ceil(BUSY * difference.numel()))


def is_everywhere(difference: Difference) -> bool:
    """Tell whether a difference, averaged already, is one of all places."""
    return calmest(difference) - SPILL * busiest(difference) > ALL


def is_doubtful(difference: Difference) -> bool:
    """Tell whether a change of all places may hide in a difference beside one of a part."""
    return calmest(averaged(difference)) > DOUBT


def smallest_meant(difference: Difference, smallest: float = SMALLEST) -> float:
    """Return the difference from which a place is meant, of a difference that is averaged already: `smallest`, or less
    where a change is slight."""
    return max(LEAST, min(smallest, SLIGHT * busiest(difference)))


def concerned(difference: Difference, smallest: float = SMALLEST) -> Part | None:
    """Return the cells that a change is about; None where it is about all of them, or where no place stands out.

    What is found is grown by a cell and by a frame: what moves, and what takes another shape, is covered where it was
    and where it will be.
    """
    near = averaged(difference)
    if is_everywhere(near):
        return None
    meant = smallest_meant(near, smallest)
    cells = _along(_grown, piecewise(lambda rows: rows > meant, near))
    share = sum(int(cells[part].sum()) for part in pieces(cells)) / cells.numel()
    return cells if 0 < share <= MOST else None


def smallest_of(numbers: Tensor, rank: int) -> float:
    """Return the `rank`-th smallest, from 1, of float32 numbers that are not negative, without sorting them."""
    if not is_long(numbers):
        return float(numbers.flatten().kthvalue(rank).values)
    # the bits of such numbers, read as integers, are in the numbers' own order: first their upper half, then the lower
    upper, below = _bin(numbers, rank, lambda bits: bits >> 16)
    lower, _ = _bin(numbers, rank - below, lambda bits: bits[bits >> 16 == upper] & 0xFFFF)
    return float(torch.tensor(upper << 16 | lower, dtype=torch.int32).view(torch.float32))


def _bin(numbers: Tensor, rank: int, value: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """Which of 65,536 values the `rank`-th smallest has, and how many are smaller than that value."""
    counts = sum(
        torch.bincount(value(numbers[part].contiguous().view(torch.int32)).flatten(), minlength=2**16)
        for part in pieces(numbers)
    )
    assert isinstance(counts, Tensor), "there are numbers"
    reached = counts.cumsum(0)
    found = int(torch.searchsorted(reached, rank))
    return found, int(reached[found] - counts[found])
