"""The mini model's autoencoder: SD 1.x's layout, factor 8, 4 latent channels."""

from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.mini.pictures import Pool
from evenreel.training.trainee import Draw, Trainee

KL_WEIGHT = 2e-5
CROP = 64


def build() -> AutoencoderKL:
    """Return an untrained autoencoder of 2.7 million parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        # Few groups: with as many groups as channels each would lose its mean, and the picture its colour.
        norm_num_groups=2,
        sample_size=128,
    )


def crops(pictures: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Cut `count` random squares of CROP px from each picture, in [-1, 1]."""
    room = pictures.shape[-1] - CROP
    pieces = []
    for picture in pictures:
        for y, x in torch.randint(room + 1, (count, 2), generator=generator).tolist():
            pieces.append(picture[:, y : y + CROP, x : x + CROP])
    return torch.stack(pieces) * 2 - 1


class CropBatch(NamedTuple):
    """Pictures in [-1, 1] to be rebuilt, and the noise of their latents."""

    target: Float[Tensor, "pictures 3 side side"]
    noise: Float[Tensor, "pictures 4 rows rows"]


class VaeTrainee(Trainee):
    """Squared and absolute error of the reconstruction, and a light pull of the latents towards N(0, 1)."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: CropBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one micro-batch, and its figures."""
        moments = self.model.encode(batch.target).latent_dist
        output = self.model.decode(moments.mean + moments.std * batch.noise).sample.float()
        squared = (output - batch.target).square().mean()
        divergence = 0.5 * (moments.mean.square() + moments.var - 1 - moments.logvar).float().mean()
        value = squared + 0.1 * (output - batch.target).abs().mean() + KL_WEIGHT * divergence
        return value, {"psnr": decibels(squared), "kl": divergence.detach()}


def drawn_crops(pool: Pool, device: torch.device, seed: int, batch: int = 16) -> Draw:
    """Return micro-batches for `VaeTrainee`."""

    def draw(number: int) -> CropBatch:
        generator = generator_of(torch.device("cpu"), "vae", seed, number)
        _, pictures = pool.batch(generator, batch)
        target = crops(pictures, generator, 1)
        noise = torch.randn(batch, 4, CROP // 8, CROP // 8, generator=generator)
        return CropBatch(target.to(device), noise.to(device))

    return draw


class DecodedBatch(NamedTuple):
    """Whole pictures in [-1, 1], and their unscaled latents."""

    target: Float[Tensor, "pictures 3 side side"]
    latents: Float[Tensor, "pictures 4 rows rows"]


class DecoderTrainee(Trainee):
    """The same errors on whole pictures, from latents that are there already: only the decoder learns."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        model.requires_grad_(False)
        for half in (model.post_quant_conv, model.decoder):
            half.requires_grad_(True)
        self.model = model

    def forward(self, batch: DecodedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one micro-batch, and its figures."""
        output = self.model.decode(batch.latents).sample.float()
        squared = (output - batch.target).square().mean()
        value = squared + 0.1 * (output - batch.target).abs().mean()
        return value, {"psnr": decibels(squared)}


def drawn_latents(
    model: AutoencoderKL, pool: Pool, scenes: SceneLatents, device: torch.device, seed: int, batch: int = 8
) -> Draw:
    """Return micro-batches for `DecoderTrainee`; `scenes` are those of the pool."""

    def draw(number: int) -> DecodedBatch:
        generator = generator_of(torch.device("cpu"), "decoder", seed, number)
        seeds = torch.randint(min(scenes.ready, pool.count), (batch,), generator=generator)
        latents = scenes.latents[seeds.to(device), 0].float() / model.config.scaling_factor
        return DecodedBatch((pool[seeds] * 2 - 1).to(device), latents)

    return draw


def decibels(squared: Tensor) -> Tensor:
    """Return the PSNR of a mean squared error between pictures in [-1, 1]."""
    return -10 * (squared.detach() / 4).log10()


@torch.inference_mode()
def scaling_factor(model: AutoencoderKL, pool: Pool, pictures: int = 256) -> float:
    """Return one over the standard deviation of the latents, as SD's own 0.18215 was found."""
    device = next(model.parameters()).device
    parts = [
        model.encode((pool[torch.arange(i, i + 32)] * 2 - 1).to(device)).latent_dist.mean
        for i in range(0, pictures, 32)
    ]
    return round(1 / torch.cat(parts).std().item(), 5)
