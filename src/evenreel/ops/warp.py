"""Pictures moved along optical flow, and which places stay in view."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Flow = Float[Tensor, "pairs 2 height width"]
"""Pixels (x, y) that what is seen at each place moves until the next frame."""

Visible = Bool[Tensor, "pairs 1 height width"]
"""Which places of a frame are seen in the next one too."""


def flow_grid(flow: Flow) -> tuple[Float[Tensor, "pairs height width 2"], Visible]:
    """Return where every place goes, as `grid_sample` takes it (align_corners=False), and whether that is in the
    picture.
    """
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
    """Return the next frames as seen from the frames before them: each place shows what it becomes."""
    grid, _ = flow_grid(flow)
    return functional.grid_sample(following, grid, mode=mode, padding_mode="border", align_corners=False)


def carried_back(flow: Flow) -> Flow:
    """Return the flow from each next frame to the one before, made of the forward flow alone.

    Each place carries its own flow, turned round, to where it goes, and shares it bilinearly among the four pixels
    there. Where several arrive it is their mean (not true motion: going there and back then misses home), where
    none does it is zero.
    """
    pairs, _, height, width = flow.shape
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    total = flow.new_zeros(pairs, 3, height * width)
    values = torch.cat([-flow, torch.ones_like(flow[:, :1])], dim=1).flatten(2)
    for left, top in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = x.floor() + left, y.floor() + top
        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = torch.where(inside, row * width + column, 0).long().flatten(1)
        shares = torch.where(inside, share, 0).flatten(1)
        total.scatter_add_(2, index[:, None].expand(-1, 3, -1), values * shares[:, None])
    arrived = total[:, 2:]
    mean = torch.where(arrived > 0, total[:, :2] / arrived.clamp_min(1e-12), 0)
    return mean.unflatten(2, (height, width))


def visible_by_depth(depth: Float[Tensor, "frames 1 height width"], flow: Flow) -> Visible:
    """Return which places are seen in the next frame too, where depth is exact: nothing else may lie where they go.

    The eight neighbours of the landing place count too, as bilinear sampling mixes them in. `flow` has one row less
    than `depth`.
    """
    _, inside = flow_grid(flow)
    following = depth[1:]
    nearest = warp_back(-functional.max_pool2d(-following, 3, 1, 1), flow, "nearest")
    farthest = warp_back(functional.max_pool2d(following, 3, 1, 1), flow, "nearest")
    return inside & ((nearest - depth[:-1]).abs() < 1e-3) & ((farthest - depth[:-1]).abs() < 1e-3)


def visible_by_return(flow: Flow, backward: Flow) -> Visible:
    """Return which places are seen in the next frame too, where flow was estimated: going there and back must end at
    home.

    backward: from each next frame to the one before. The tolerance is the usual one (Sundaram et al., ECCV 2010):
    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5.
    """
    _, inside = flow_grid(flow)
    back = warp_back(backward, flow)
    off = (flow + back).square().sum(1, keepdim=True)
    length = flow.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return inside & (off < 0.01 * length + 0.5)
