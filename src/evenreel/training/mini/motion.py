"""Micro-batches of clips of the world for motion modules: noise of its own in each frame, one noise level a clip."""

import torch

from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.unet import Drawn
from evenreel.training.motion.trainee import MotionBatch

SHORT_EVERY = 3
"""Every so many micro-batches hold twice as many clips of half the length: an edit may have few frames."""


class DrawnClips(Drawn):
    """As `Drawn`, of whole clips; `batch` counts clips."""

    def __call__(self, number: int) -> MotionBatch:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The micro-batch of a number; on a GPU, of what has been rendered so far."""
        self.take()
        scenes, device = self.scenes, self.scenes.device
        generator = generator_of(device, "motion", self.seed, number)
        whole = scenes.data.frames
        short = number % SHORT_EVERY == SHORT_EVERY - 1 and whole >= 2
        clips, frames = (2 * self.batch, whole // 2) if short else (self.batch, whole)
        rows = torch.randint(scenes.ready, (clips,), generator=generator, device=device)
        first = torch.randint(whole - frames + 1, (clips, 1), generator=generator, device=device)
        shown = first + torch.arange(frames, device=device)
        latents = scenes.latents[rows[:, None], shown].float()
        return MotionBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator, device=device),
            timesteps=self.timesteps(clips, generator),
            prompt_embeds=self.embedded(rows, generator),
        )
