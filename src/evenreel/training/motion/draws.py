"""Micro-batches of clips out of shards: several frame rates, noise of its own in each frame, one noise level a clip."""

import random

import torch
from torch import Tensor

from evenreel.random import generator
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch, DrawBatch
from evenreel.training.motion.settings import MotionTrainingSettings, seen_at
from evenreel.training.motion.trainee import MotionBatch


class ClipDraws:
    """Micro-batches by number, as `Training` counts them: the same number is always the same one."""

    def __init__(self, draw: DrawBatch, encoded: Encoded, settings: MotionTrainingSettings) -> None:
        self._draw, self._encoded, self._settings = draw, encoded, settings

    def __call__(self, number: int) -> MotionBatch:
        """The micro-batch of a number, on the model's device."""
        batch, settings = self._draw(number), self._settings
        rng = random.Random(f"evenreel motion {settings.seed} {number}")
        clips, frames = batch.frames.shape[:2]
        stride = rng.choice(settings.strides)
        span = (seen_at(frames, stride) - 1) * stride + 1
        first = rng.randrange(frames - span + 1)
        latents = self._encoded.latents(batch).unflatten(0, (clips, frames))[:, first : first + span : stride]
        return MotionBatch(
            latents=latents,
            noise=torch.stack([_noise(seed, latents.shape[1:]) for seed in batch.seeds]).to(latents),
            timesteps=self._timesteps(clips, rng).to(latents.device),
            prompt_embeds=self._encoded.text(self._captions(batch)),
        )

    def _timesteps(self, clips: int, rng: random.Random) -> Tensor:
        """One noise level from each of `clips` equal parts of the schedule: the loss varies less from step to step."""
        levels = len(self._encoded.backbone.schedule.alphas_cumprod)
        places = [int((clip + rng.random()) * levels / clips) for clip in range(clips)]
        return torch.tensor(places).clamp(max=levels - 1)

    def _captions(self, batch: Batch) -> list[str]:
        share = self._settings.unconditional
        dropped = (random.Random(f"evenreel caption {seed}").random() < share for seed in batch.seeds)
        return ["" if drop else text for drop, text in zip(dropped, batch.captions, strict=True)]


def _noise(seed: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=generator(seed))
