"""Where what a token shows is in the next frame: along known flow, or where tokens of the source are most alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from evenreel.ops.correspondence import directions, nearest

Tokens = Float[Tensor, "pairs tokens channels"]


@dataclass(frozen=True)
class TokenMotion:
    """For each token of a frame, the tokens of the next one that show the same."""

    places: Int[Tensor, "pairs tokens some"]
    """Which tokens these are."""
    shares: Float[Tensor, "pairs tokens some"]
    """How much each of them is; together 1."""
    sure: Float[Tensor, "pairs tokens"]
    """From 0 (out of sight, or unknown) to 1."""

    def follow(self, following: Tokens) -> Tokens:
        """Return the next frames' tokens, each where the one before it was."""
        channels = following.shape[-1]
        index = self.places.flatten(1)[..., None].expand(-1, -1, channels)
        taken = following.gather(1, index).unflatten(1, self.places.shape[1:])
        return (self.shares[..., None].to(taken) * taken).sum(2)

    def to(self, device: torch.device) -> "TokenMotion":
        """Return the same on another device."""
        return TokenMotion(self.places.to(device), self.shares.to(device), self.sure.to(device))


def along_flow(
    flow: Float[Tensor, "pairs 2 height width"],
    visible: Bool[Tensor, "pairs 1 height width"],
    grid: tuple[int, int],
) -> TokenMotion:
    """Return the motion of the tokens of a `grid` (rows, columns) under pixels that move by `flow` (x, y) until the
    next frame.

    A token moves as its pixels do on the mean, and is as sure as the share of them that stays `visible`. Where it
    arrives between tokens, these share it bilinearly.
    """
    rows, columns = grid
    height, width = flow.shape[-2:]
    seen = visible.to(flow.dtype)
    sure = functional.adaptive_avg_pool2d(seen, grid)
    moved = functional.adaptive_avg_pool2d(flow * seen, grid) / sure.clamp_min(1e-6)
    y, x = torch.meshgrid(
        torch.arange(rows, device=flow.device), torch.arange(columns, device=flow.device), indexing="ij"
    )
    x, y = x + moved[:, 0] * columns / width, y + moved[:, 1] * rows / height
    inside = (x >= -0.5) & (x <= columns - 0.5) & (y >= -0.5) & (y <= rows - 0.5)
    x, y = x.clamp(0, columns - 1), y.clamp(0, rows - 1)
    left, top = x.floor(), y.floor()
    places, shares = [], []
    for down in (0, 1):
        for right in (0, 1):
            column, row = (left + right).clamp_max(columns - 1), (top + down).clamp_max(rows - 1)
            places.append(row * columns + column)
            shares.append((1 - (x - left - right).abs()) * (1 - (y - top - down).abs()))
    return TokenMotion(
        places=torch.stack(places, dim=-1).long().flatten(1, 2),
        shares=torch.stack(shares, dim=-1).flatten(1, 2),
        sure=(sure[:, 0] * inside).flatten(1),
    )


@torch.no_grad()
def by_resemblance(source: Tokens, following: Tokens) -> TokenMotion:
    """Return the motion to the token that is most alike, by cosine; sure where the way back leads home again."""
    ones, others = directions(source), directions(following)
    there = torch.stack([nearest(one[None], other)[0] for one, other in zip(ones, others, strict=True)])
    back = torch.stack([nearest(other[None], one)[0] for one, other in zip(ones, others, strict=True)])
    home = torch.arange(source.shape[1], device=source.device)
    sure = (back.gather(1, there) == home).to(ones.dtype)
    return TokenMotion(places=there[..., None], shares=torch.ones_like(sure)[..., None], sure=sure)


def grid_of(tokens: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of a layer with so many `tokens`, in a UNet on latents of (height, width).

    Raises: ValueError when no halving of the latents has so many.
    """
    rows, columns = latent_size
    while rows * columns > tokens:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2  # as convolutions of stride 2 do
    if rows * columns != tokens:
        raise ValueError(f"no level of latents of {latent_size} has {tokens} tokens")
    return rows, columns
