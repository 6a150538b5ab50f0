"""How well a model gets a clip back after inversion: the ceiling of every edit that starts from one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from evenreel.backbones.base import Backbone
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.metrics.fidelity import psnr
from evenreel.types import Frames, Latents


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Quality of a clip that was inverted and sampled back with the same prompt and no guidance."""

    steps: int
    """Steps of the inversion and of the sampling."""
    psnr: float
    """Of the frames against the source, in dB."""
    psnr_to_autoencoder: float
    """Of the frames against the source encoded and decoded, in dB: what inversion alone loses."""


def reconstruct(
    backbone: Backbone, latents: Latents, steps: int, *, prompt: str = "", batch: int = 8
) -> Latents:
    """Invert clean latents and sample them back, with the same prompt and guidance 1."""
    embeds, timesteps = backbone.embed([prompt]), backbone.schedule.timesteps(steps)
    rebuilt = []
    for window in latents.split(batch):
        run = invert(window, lambda x, t: backbone.predict_noise(x, t, embeds), backbone.schedule, timesteps)
        *_, (_, noisy) = run
        back = sample(
            noisy, lambda x, _, t: backbone.predict_noise(x, t, embeds), backbone.schedule, timesteps
        )
        *_, (_, clean) = back
        rebuilt.append(clean)
    return torch.cat(rebuilt)


def reconstruction_psnr(
    backbone: Backbone, frames: Frames, steps: Sequence[int], *, prompt: str = "", batch: int = 8
) -> Iterator[Reconstruction]:
    """Measure reconstruction for each number of steps; yields one result after the other."""
    latents = backbone.encode(frames)
    ceiling = backbone.decode(latents).cpu()
    for count in steps:
        rebuilt = backbone.decode(reconstruct(backbone, latents, count, prompt=prompt, batch=batch)).cpu()
        yield Reconstruction(
            steps=count, psnr=psnr(rebuilt, frames.cpu()), psnr_to_autoencoder=psnr(rebuilt, ceiling)
        )
