"""Pictures moved along optical flow."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Flow = Float[Tensor, "pairs 2 height width"]
"""Pixels (x, y) that what is seen at each place moves until the next frame."""

Visible = Bool[Tensor, "pairs 1 height width"]
"""Which places of a frame are seen in the next one too."""


def flow_grid(flow: Flow) -> tuple[Float[Tensor, "pairs height width 2"], Visible]:
    """Where every place goes, as `grid_sample` takes it (align_corners=False), and whether that is in the picture."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + 0.5
    y = torch.arange(height, device=flow.device) + 0.5
    size = torch.tensor([width, height], dtype=flow.dtype, device=flow.device)
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    goes = places + flow.movedim(1, -1)
    inside = ((goes >= 0.5) & (goes <= size - 0.5)).all(-1)
    return 2 * goes / size - 1, inside[:, None]


def warp_back(
    following: Float[Tensor, "pairs channels height width"], flow: Flow, mode: str = "bilinear"
) -> Float[Tensor, "pairs channels height width"]:
    """The next frames as seen from the frames before them: each place shows what it becomes."""
    grid, _ = flow_grid(flow)
    return functional.grid_sample(following, grid, mode=mode, padding_mode="border", align_corners=False)
