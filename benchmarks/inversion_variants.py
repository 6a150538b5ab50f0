"""Which part of fixed-point inversion does what: variants that were tried, with what each loses.

    python benchmarks/inversion_variants.py                # 25 steps, 3 held-out clips of 4 frames

Plain inversion is told the timestep that a step goes to, or the one that the latents have. Fixed-point iterations start
from the latents below, from the noise predicted at the step before, or from noise extrapolated from the last two; the
last predictions are averaged (as ReNoise does, arXiv:2403.14602) or not.
"""

import argparse

import torch

from evenreel.backbones import load_backbone
from evenreel.backbones.base import Backbone
from evenreel.diffusion import ddim
from evenreel.diffusion.sampling import sample
from evenreel.metrics.fidelity import psnr
from evenreel.types import Latents
from evenreel.world import HELD_OUT, caption, random_scene, render

FIRST = 41_000
"""Held-out clips from here on, as in reconstruction.py."""
VARIANTS = {
    "plain, told the timestep it goes to": ("plain", 1, 1),
    "plain, told the timestep it has": ("current", 1, 1),
    "1 prediction, from the noise before": ("before", 1, 1),
    "1 prediction, from extrapolated noise": ("extrapolated", 1, 1),
    "2 predictions, from the latents below": ("plain", 2, 1),
    "2 predictions, from the noise before": ("before", 2, 1),
    "2 predictions, from extrapolated noise": ("extrapolated", 2, 1),
    "2 predictions, from the noise before, both averaged": ("before", 2, 2),
    "4 predictions, from the noise before": ("before", 4, 1),
    "4 predictions, from the noise before, last two averaged": ("before", 4, 2),
}
"""Start, noise predictions for each step, how many of the last ones are averaged."""


@torch.inference_mode()
def inverted(
    backbone: Backbone, clip: Latents, prompt: str, steps: int, start: str, iterations: int, averaged: int
) -> Latents:
    """The clip at the level of the first timestep of a run."""
    schedule, embeds = backbone.schedule, backbone.embed([prompt])
    latents, level, below = clip, schedule.final_alpha_cumprod, 0
    found: list[Latents] = []
    for timestep in reversed(schedule.timesteps(steps)):
        alpha = schedule.alpha(timestep)
        noisy = latents
        if found and start in ("before", "extrapolated"):
            further = start == "extrapolated" and len(found) > 1
            noisy = ddim.step(latents, 2 * found[-1] - found[-2] if further else found[-1], level, alpha)
        tried = []
        for _ in range(iterations):
            tried.append(backbone.predict_noise(noisy, below if start == "current" else timestep, embeds))
            noisy = ddim.step(latents, tried[-1], level, alpha)
        found.append(torch.stack(tried[-averaged:]).mean(0))
        latents, level, below = ddim.step(latents, found[-1], level, alpha), alpha, timestep
    return latents


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--model", default="mini")
    options = parser.parse_args()
    backbone = load_backbone(options.model)
    timesteps = backbone.schedule.timesteps(options.steps)
    quality: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(FIRST, FIRST + options.clips):
        scene = random_scene(HELD_OUT + number, objects=1)
        frames = render(scene, range(options.frames), backbone.native_size, maps=False).frames
        clip, prompt = backbone.encode(frames), caption(scene)
        embeds, best = backbone.embed([prompt]), backbone.decode(clip)
        for name, variant in VARIANTS.items():
            noisy = inverted(backbone, clip, prompt, options.steps, *variant)
            run = sample(
                noisy,
                lambda x, _, t, embeds=embeds: backbone.predict_noise(x, t, embeds),
                backbone.schedule,
                timesteps,
            )
            *_, (_, rebuilt) = run
            quality[name].append(psnr(backbone.decode(rebuilt), best))
    print(f"| {options.steps} steps | dB, autoencoder | worst |\n|---|---|---|")
    for name, values in quality.items():
        print(f"| {name} | {sum(values) / len(values):.1f} | {min(values):.1f} |")


if __name__ == "__main__":
    main()
