"""The mini model's autoencoder: SD 1.x's layout, factor 8, 4 latent channels."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from evenreel.training.loop import Loss
from evenreel.training.pool import Pool

KL_WEIGHT = 2e-5
CROP = 64


def build() -> AutoencoderKL:
    """An untrained autoencoder of 2.7 million parameters."""
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
    """`count` random squares of CROP px from each picture, in [-1, 1]."""
    room = pictures.shape[-1] - CROP
    pieces = []
    for picture in pictures:
        for y, x in torch.randint(room + 1, (count, 2), generator=generator).tolist():
            pieces.append(picture[:, y : y + CROP, x : x + CROP])
    return torch.stack(pieces) * 2 - 1


def loss(model: AutoencoderKL, pool: Pool, batch: int = 16) -> Loss:
    """Squared and absolute error of the reconstruction, and a light pull of the latents towards N(0, 1)."""

    def step(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        _, pictures = pool.batch(generator, batch)
        target = crops(pictures, generator, 1)
        with torch.autocast("cpu", torch.bfloat16):
            moments = model.encode(target).latent_dist
            noise = torch.randn(moments.mean.shape, generator=generator)
            latents = moments.mean + moments.std * noise
            output = model.decode(latents).sample.float()
        squared = (output - target).square().mean()
        divergence = 0.5 * (moments.mean.square() + moments.var - 1 - moments.logvar).float().mean()
        value = squared + 0.1 * (output - target).abs().mean() + KL_WEIGHT * divergence
        return value, {"psnr": -10 * (squared.detach() / 4).log10().item(), "kl": divergence.item()}

    return step


def decoder_loss(model: AutoencoderKL, pool: Pool, latents: Tensor, batch: int = 8) -> Loss:
    """The same errors on whole pictures, from cached (scaled) latents: only the decoder learns."""

    def step(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        seeds = torch.randint(len(latents), (batch,), generator=generator)
        target = pool[seeds] * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            output = model.decode(latents[seeds] / model.config.scaling_factor).sample.float()
        squared = (output - target).square().mean()
        value = squared + 0.1 * (output - target).abs().mean()
        return value, {"psnr": -10 * (squared.detach() / 4).log10().item()}

    return step


@torch.inference_mode()
def scaling_factor(model: AutoencoderKL, pool: Pool, pictures: int = 256) -> float:
    """One over the standard deviation of the latents, as SD's own 0.18215 was found."""
    parts = [
        model.encode(pool[torch.arange(i, i + 32)] * 2 - 1).latent_dist.mean for i in range(0, pictures, 32)
    ]
    return round(1 / torch.cat(parts).std().item(), 5)
