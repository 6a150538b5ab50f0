"""Micro-batches of pictures and their maps out of shards."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from evenreel.ops.edges import canny
from evenreel.ops.nearness import nearness
from evenreel.random import generator
from evenreel.training.control.settings import ControlTrainingSettings
from evenreel.training.control.trainee import ControlBatch
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch


class ControlDraws:
    """Micro-batches by number, as `Training` counts them: the same number is always the same one."""

    def __init__(
        self, draw: Callable[[int], Batch], encoded: Encoded, settings: ControlTrainingSettings
    ) -> None:
        self._draw, self._encoded, self._settings = draw, encoded, settings

    def __call__(self, number: int) -> ControlBatch:
        """The micro-batch of a number, on the model's device."""
        batch, settings = self._draw(number), self._settings
        rng = random.Random(f"evenreel control {settings.seed} {number}")
        pictures, frames = batch.frames.shape[:2]
        rows = torch.arange(pictures), torch.tensor([rng.randrange(frames) for _ in range(pictures)])
        latents = self._encoded.latents(batch).unflatten(0, (pictures, frames))
        latents = latents[rows[0].to(latents.device), rows[1].to(latents.device)]
        levels = len(self._encoded.backbone.schedule.alphas_cumprod)
        # one noise level from each of as many equal parts of the schedule: the loss varies less from step to step
        places = [int((picture + rng.random()) * levels / pictures) for picture in range(pictures)]
        captions = ["" if rng.random() < settings.unconditional else caption for caption in batch.captions]
        noise = [torch.randn(latents.shape[1:], generator=generator(seed)) for seed in batch.seeds]
        return ControlBatch(
            latents=latents,
            noise=torch.stack(noise).to(latents),
            timesteps=torch.tensor(places, device=latents.device).clamp(max=levels - 1),
            prompt_embeds=self._encoded.text(captions),
            maps=maps_of(settings.kind, batch, rows).to(latents.device),
        )


def maps_of(kind: str, batch: Batch, rows: tuple[Tensor, Tensor]) -> Tensor:
    """Return what a ControlNet is shown of (groups, frames) of a batch: bytes, (pictures 3 height width).

    Edges are found where the batch has none; depths and poses must be there.
    """
    if kind in batch.maps:
        shown = batch.maps[kind][rows]
        shown = nearness(shown) if kind == "depth" else shown
    else:
        shown = canny(batch.frames[rows])[:, None].float()
    return (shown * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
