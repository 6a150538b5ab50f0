"""Classifier-free guidance: branches of one batch, stacked outermost in the order (source, uncond, cond)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.types import Latents, PromptRows

Batch = Float[Tensor, "batch channels height width"]
"""Latents of several branches, the branch outermost: batch = branches * frames."""


def stack(branches: Sequence[Latents]) -> Batch:
    """Join branches into one batch, the branch outermost."""
    return torch.cat(list(branches))


def split(batch: Batch, branches: int) -> tuple[Latents, ...]:
    """Undo `stack`: cut rows into one part for each branch."""
    return batch.chunk(branches)


def joined(embeds: Sequence[PromptRows], frames: int) -> PromptRows:
    """Join the embeddings of several branches: one row for each, unless one of them has a row for each frame."""
    if len({len(rows) for rows in embeds}) > 1:
        embeds = [rows.expand(frames, -1, -1) for rows in embeds]
    return torch.cat(list(embeds))


def combine(uncond: Latents, cond: Latents, guidance_scale: float | Float[Tensor, "frames 1 1 1"]) -> Latents:
    """Move the prediction from the negative prompt towards the prompt (arXiv:2207.12598, eq. 6)."""
    return uncond + guidance_scale * (cond - uncond)


def predict(
    predict_noise: Callable[[Batch, PromptRows], Batch],
    latents: Latents,
    uncond: PromptRows,
    cond: PromptRows,
    guidance_scale: float,
) -> Latents:
    """Predict noise under guidance, both branches in one call; without guidance (a scale of 1) `uncond` is left out."""
    if guidance_scale == 1:
        return predict_noise(latents, cond)
    noise_pred = predict_noise(stack([latents] * 2), joined([uncond, cond], len(latents)))
    away, towards = split(noise_pred, 2)
    return combine(away, towards, guidance_scale)
