"""Motion modules and the UNet trained together on clips of the world, and the UNet alone on single frames of them.

AnimateDiff freezes the picture model: there, motion modules learn of the prompt only what a picture model passes on. A
UNet that has seen pictures alone passes on next to nothing of the words that a picture does not show (rolling,
sliding), so clips did not move as they were told. Here the UNet learns what these words mean. Frames without motion
modules take part in every step, so that it goes on drawing single pictures as well as before.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from evenreel.motion.modules import MotionModules
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.mini.motion import DrawnClips
from evenreel.training.mini.unet import Drawn
from evenreel.training.motion.trainee import MotionBatch, MotionTrainee


class JointBatch(NamedTuple):
    """Clips as in a `MotionBatch`, then the same of single pictures, (pictures 1 4 height width)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompt_embeds: Tensor
    picture_latents: Tensor
    picture_noise: Tensor
    picture_timesteps: Tensor
    picture_prompt_embeds: Tensor


class JointTrainee(MotionTrainee):
    """As a `MotionTrainee`, with a UNet that learns too."""

    def __init__(self, unet: torch.nn.Module, modules: MotionModules, alphas_cumprod: Tensor) -> None:
        super().__init__(unet, modules, alphas_cumprod)
        self.unet.requires_grad_(True).train()

    def forward(self, batch: JointBatch) -> tuple[Tensor, dict[str, Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the weighted error of clips with motion modules and of pictures without; figures of both."""
        loss, figures = super().forward(MotionBatch(*batch[:4]))
        still, seen = self.weighted(MotionBatch(*batch[4:]), with_motion=False)
        return loss + still, {**figures, "mse_pictures": seen["mse"]}


class DrawnJoint:
    """Clips, and pictures out of all clips that are there."""

    def __init__(self, clips: DrawnClips, pictures: int) -> None:
        self.clips, self.pictures = clips, _Pictures(clips, pictures)

    def __call__(self, number: int) -> JointBatch:
        """The micro-batch of a number."""
        return JointBatch(*self.clips(number), *self.pictures(number))


class _Pictures:
    """Single frames of clips, under captions of theirs."""

    def __init__(self, clips: DrawnClips, count: int) -> None:
        self._clips, self._count = clips, count

    def __call__(self, number: int) -> MotionBatch:
        clips: Drawn = self._clips
        scenes: SceneLatents = clips.scenes
        device, count = scenes.device, self._count
        generator = generator_of(device, "pictures of clips", clips.seed, number)
        rows = torch.randint(scenes.ready, (count,), generator=generator, device=device)
        shown = torch.randint(scenes.data.frames, (count,), generator=generator, device=device)
        latents = scenes.latents[rows, shown].float()[:, None]
        return MotionBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator, device=device),
            timesteps=clips.timesteps(count, generator),
            prompt_embeds=clips.embedded(rows, generator),
        )
