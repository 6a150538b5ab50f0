"""Which token of one picture is most like each token of another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SCORES_AT_ONCE = 2**24
"""Similarities held together; bounds memory at 64 MiB."""


def directions(
    tokens: Float[Tensor, "*pictures tokens channels"],
) -> Float[Tensor, "*pictures tokens channels"]:
    """Return tokens scaled to length one, in float32; a token of zeros stays one."""
    tokens = tokens.float()
    return tokens / tokens.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(tokens.dtype).tiny)


def nearest(
    tokens: Float[Tensor, "frames tokens channels"], keys: Float[Tensor, "keys channels"]
) -> Int[Tensor, "frames tokens"]:
    """Find for each token the key with the highest cosine similarity; both come as `directions`."""
    # A token's own length changes no choice, but it changes how sums round, and so on which side ties fall.
    rows = tokens.flatten(0, 1)
    blocks = rows.split(max(1, _SCORES_AT_ONCE // len(keys)))
    return torch.cat([(block @ keys.mT).argmax(dim=-1) for block in blocks]).view(tokens.shape[:2])
