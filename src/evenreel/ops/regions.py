"""Parts of pictures: from pixels to cells of latents and back, grown, and with a soft edge."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Part = Bool[Tensor, "frames height width"]
"""What belongs to it, of the pixels or cells of pictures."""
Cells = Bool[Tensor, "frames rows columns"]
"""The same, where it stands beside another grid."""
Places = UInt8[Tensor, "frames height width"]
"""Of each cell of a clip's latents, which prompt it follows: 0 is the clip's own, n that of the n-th region."""
Weights = Float[Tensor, "frames height width"]


def grown(part: Part, radius: int) -> Part:
    """Add all places at most `radius` away, across, down or diagonally."""
    if not radius:
        return part
    return F.max_pool2d(part[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0


def feathered(part: Part, width: int) -> Weights:
    """Return 1 in the part, exactly 0 farther than `width` pixels from it, and what falls evenly between.

    Distances are across, down or diagonal, whichever is largest; an odd `width` counts as the even number below. Half
    of it is added on all sides, and a mean over as much to each side makes the slope.
    """
    half = width // 2
    wide = grown(part, half).float()[:, None]
    if not half:
        return wide[:, 0]
    side = 2 * half + 1
    # whole numbers, so that all and nothing come out as exactly 1 and 0; beyond the picture it is as at its edge
    padded = F.pad(wide, (half, half, half, half), mode="replicate")
    across = F.avg_pool2d(padded, (1, side), 1, divisor_override=1)
    return (F.avg_pool2d(across, (side, 1), 1, divisor_override=1) / side**2)[:, 0]


def cells_of(part: Part, size: tuple[int, int]) -> Cells:
    """Return the cells, of a grid of (height, width) `size` laid over the picture, that hold some of a part's pixels.

    Where cells are smaller than pixels, those under a pixel of the part. `pixels_of` of the cells of some pixels holds
    all of these; unless cells are smaller than pixels, `cells_of` of the pixels of some cells gives the cells again.
    """
    for axis, cells in zip((1, 2), size, strict=True):
        pixels = part.shape[axis]
        if cells >= pixels:
            part = part.index_select(axis, _centres(cells, pixels))
        else:
            shape = list(part.shape)
            shape[axis] = cells
            total = torch.zeros(shape, dtype=torch.int32)
            part = total.index_add_(axis, _centres(pixels, cells), part.to("cpu", torch.int32)) > 0
    return part


def pixels_of(cells: Cells, size: tuple[int, int]) -> Part:
    """Return the pixels, of a picture of (height, width) `size`, whose centres lie in cells of a grid over it."""
    height, width = size
    rows = _centres(height, cells.shape[1])
    return cells.index_select(1, rows).index_select(2, _centres(width, cells.shape[2]))


def _centres(fine: int, coarse: int) -> Tensor:
    """The place on a `coarse` scale in which the middle of each place on a `fine` one lies."""
    return (2 * torch.arange(fine) + 1) * coarse // (2 * fine)
