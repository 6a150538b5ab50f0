"""Training of the judge, on renders roughened so that it does not trip over an autoencoder's softness."""

import torch
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.judge import Judge
from evenreel.training.clip import labels
from evenreel.training.loop import Loss
from evenreel.training.pool import Pool
from evenreel.world import random_scene


def roughened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the pictures blurred, all of them with a little noise and a shift of a few pixels."""
    blurred = functional.avg_pool2d(functional.pad(pictures, [1, 1, 1, 1], mode="replicate"), 3, 1)
    choose = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 1 / 3
    pictures = torch.where(choose, blurred, pictures)
    pictures = pictures + 0.03 * torch.rand(1, generator=generator) * torch.randn(
        pictures.shape, generator=generator
    )
    y, x = torch.randint(9, (2,), generator=generator).tolist()
    size = pictures.shape[-1]
    padded = functional.pad(pictures, [4, 4, 4, 4], mode="replicate")
    return padded[..., y : y + size, x : x + size].clamp(0, 1)


def loss(judge: Judge, pool: Pool, batch: int = 64) -> Loss:
    """Cross-entropy of every attribute."""

    def step(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        seeds, pictures = pool.batch(generator, batch)
        scenes = [random_scene(int(seed)) for seed in seeds]
        with torch.autocast("cpu", torch.bfloat16):
            scores = judge(roughened(pictures, generator))
        truths = {name: labels(scenes, name) for name in scores}
        value = torch.stack(
            [functional.cross_entropy(scores[name].float(), truths[name]) for name in scores]
        ).sum()
        right = {name: (scores[name].argmax(-1) == truths[name]).float().mean().item() for name in scores}
        return value, right

    return step
