"""Classifier-free guidance: branches of one batch, stacked outermost in the order (source, uncond, cond)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.types import Latents

Batch = Float[Tensor, "batch channels height width"]
"""Latents of several branches, the branch outermost: batch = branches * frames."""


def stack(branches: Sequence[Latents]) -> Batch:
    """Join branches into one batch, the branch outermost."""
    return torch.cat(list(branches))


def split(batch: Batch, branches: int) -> tuple[Latents, ...]:
    """Undo `stack`."""
    return batch.chunk(branches)


def combine(uncond: Latents, cond: Latents, guidance_scale: float) -> Latents:
    """Move the prediction from the negative prompt towards the prompt (arXiv:2207.12598, eq. 6)."""
    return uncond + guidance_scale * (cond - uncond)
