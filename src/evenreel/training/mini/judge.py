"""Training of the judge, on renders roughened so that it does not trip over an autoencoder's softness."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.judge import Judge
from evenreel.training.mini.clip import labels
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.pictures import Pool
from evenreel.training.trainee import Draw, Trainee
from evenreel.world import ATTRIBUTES, random_scene


def roughened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return a third of the pictures blurred, all of them with a little noise and a shift of a few pixels."""
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


class JudgeBatch(NamedTuple):
    """Roughened pictures, and what they show."""

    pictures: Float[Tensor, "pictures 3 height width"]
    labels: Int[Tensor, "attributes pictures"]


class JudgeTrainee(Trainee):
    """Cross-entropy of every attribute."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, batch: JudgeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one micro-batch, and its figures."""
        scores = self.judge(batch.pictures)
        truths = dict(zip(ATTRIBUTES, batch.labels, strict=True))
        value = torch.stack([functional.cross_entropy(scores[name].float(), truths[name]) for name in scores])
        right = {name: (scores[name].argmax(-1) == truths[name]).float().mean() for name in scores}
        return value.sum(), right


def drawn(pool: Pool, device: torch.device, seed: int, batch: int = 64) -> Draw:
    """Return micro-batches for `JudgeTrainee`."""

    def draw(number: int) -> JudgeBatch:
        generator = generator_of(torch.device("cpu"), "judge", seed, number)
        seeds, pictures = pool.batch(generator, batch)
        scenes = [random_scene(int(seed)) for seed in seeds]
        truths = torch.stack([labels(scenes, name) for name in ATTRIBUTES])
        return JudgeBatch(roughened(pictures, generator).to(device), truths.to(device))

    return draw
