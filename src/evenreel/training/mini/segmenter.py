"""Training of the segmenter: on renders, on what an autoencoder makes of them, and on drawings that wobble."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.segmenter import Segmenter, mask_iou
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.pictures import SIZE, Pool, frame_of
from evenreel.training.trainee import Draw, Trainee
from evenreel.world import main_mask, random_scene

Pictures = Float[Tensor, "pictures 3 128 128"]
Masks = Float[Tensor, "pictures 1 128 128"]
Autoencoder = Callable[[Pictures, torch.Generator], Pictures]
"""Pictures as they come back from latents to which a little noise was added; see `through_latents`."""

WOBBLE = 4.0
"""Pixels that outlines are bent by, at most."""
SHIFT = 14.0
"""Pixels that pictures are moved by, at most: objects are then cut off at the edge more often than in the world."""
LATENT_NOISE = 0.3
"""Standard deviation of the noise in scaled latents, at most."""


class SegmenterBatch(NamedTuple):
    """Pictures, and how much of each pixel shows the main object."""

    pictures: Pictures
    masks: Masks


class SegmenterTrainee(Trainee):
    """The segmenter with its loss."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, batch: SegmenterBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of each pixel plus one minus the IoU of shares; and figures: both, and the IoU of
        masks."""
        scores = self.segmenter(batch.pictures).float()
        entropy = functional.binary_cross_entropy_with_logits(scores, batch.masks)
        soft = mask_iou(scores.sigmoid(), batch.masks).mean()
        hard = mask_iou(scores.detach() > 0, batch.masks > 0.5).mean()
        figures = {"entropy": entropy.detach(), "soft_iou": soft.detach(), "iou": hard}
        return entropy + 1 - soft, figures


def drawn(
    pool: Pool, device: torch.device, seed: int, batch: int = 48, autoencoder: Autoencoder | None = None
) -> Draw:
    """Return micro-batches for `SegmenterTrainee`.

    A third of the pictures goes through `autoencoder`, if there is one; half of them is bent, and all are roughened.
    """

    def draw(number: int) -> SegmenterBatch:
        generator = generator_of(torch.device("cpu"), "segmenter", seed, number)
        seeds, found = pool.batch(generator, batch)
        masks = torch.cat([main_mask(random_scene(seed), [frame_of(seed)], SIZE) for seed in seeds.tolist()])
        wobbling = torch.rand(batch, generator=generator) < 0.5
        found, masks = bent(found, masks, wobbling.float() * WOBBLE, generator)
        if autoencoder is not None:
            third = batch // 3
            found = torch.cat([autoencoder(found[:third], generator), found[third:]])
        return SegmenterBatch(roughened(found, generator).to(device), masks.to(device))

    return draw


def bent(
    pictures: Pictures, masks: Masks, wobble: Float[Tensor, " pictures"], generator: torch.Generator
) -> tuple[Pictures, Masks]:
    """Return pictures and masks moved by a few pixels, half of them mirrored, bent by up to `wobble` pixels."""
    count = len(pictures)
    shift = SHIFT * (2 * torch.rand(count, 2, 1, 1, generator=generator) - 1)
    coarse = 2 * torch.rand(count, 2, 7, 7, generator=generator) - 1
    bend = functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True)
    amount = wobble * torch.rand(count, generator=generator)
    offset = (shift + bend * amount[:, None, None, None]).movedim(1, -1) * (2 / SIZE)
    grid = functional.affine_grid(torch.eye(2, 3).expand(count, -1, -1), [count, 3, SIZE, SIZE], False)
    mirrored = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    grid = (grid + offset) * torch.cat([mirrored, torch.ones_like(mirrored)], dim=-1)
    both = functional.grid_sample(
        torch.cat([pictures, masks], 1), grid, padding_mode="reflection", align_corners=False
    )
    return both[:, :3].clamp(0, 1), both[:, 3:].clamp(0, 1)


def roughened(pictures: Pictures, generator: torch.Generator) -> Pictures:
    """Return a third of the pictures blurred, all with other contrast, brightness and saturation and a little noise."""

    def some(low: float, high: float, width: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), width, 1, 1, generator=generator)

    blurred = functional.avg_pool2d(functional.pad(pictures, [1, 1, 1, 1], mode="replicate"), 3, 1)
    pictures = torch.where(some(0.0, 1.0) < 1 / 3, blurred, pictures)
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * some(0.6, 1.2)
    level = pictures.mean((2, 3), keepdim=True)
    pictures = level + (pictures - level) * some(0.75, 1.1) + some(-0.08, 0.08, 3)
    noise = torch.randn(pictures.shape, generator=generator)
    return (pictures + some(0.0, 0.04) * noise).clamp(0, 1)


def through_latents(
    encode: Callable[[Pictures], Tensor], decode: Callable[[Tensor], Pictures]
) -> Autoencoder:
    """Return an autoencoder that adds noise to the latents: what is drawn in latents is never as clean as what was
    encoded.
    """

    @torch.no_grad()
    def there_and_back(pictures: Pictures, generator: torch.Generator) -> Pictures:
        latents = encode(pictures)
        amount = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        return decode(latents + (amount * noise).to(latents)).float().clamp(0, 1).to(pictures)

    return there_and_back
