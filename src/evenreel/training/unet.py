"""The mini model's UNet: SD 1.x's layer names and order, on cached latents, told by the frozen text tower."""

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from evenreel.training.loop import Loss, write_aside
from evenreel.training.pool import Pool
from evenreel.world import caption, random_scene

UNCONDITIONAL = 0.1
"""Share of captions left out, for classifier-free guidance."""
SNR_CAP = 5.0
"""Weight of a noise level: min(SNR, cap) / SNR (min-SNR, arXiv:2303.09556)."""
PICTURES = 20_000
"""How many of the pool are encoded."""


def build(text_width: int) -> UNet2DConditionModel:
    """An untrained UNet of 17 million parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(64, 128, 160, 160),
        layers_per_block=2,
        cross_attention_dim=text_width,
        attention_head_dim=4,
    )


def scheduler() -> DDPMScheduler:
    """SD 1.x's noise schedule."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )


@torch.inference_mode()
def encoded(pool: Pool, vae: AutoencoderKL, path: Path) -> Tensor:
    """Scaled latents of PICTURES of the pool (pictures 4 16 16), computed once and kept in a file."""
    if not path.exists():
        parts = []
        with torch.autocast("cpu", torch.bfloat16):
            for first in range(0, PICTURES, 50):
                pictures = pool[torch.arange(first, first + 50)] * 2 - 1
                parts.append(vae.encode(pictures).latent_dist.mean.float() * vae.config.scaling_factor)
        write_aside({"latents": torch.cat(parts)}, path)
    return load_file(path)["latents"]


@torch.inference_mode()
def embed(texts: list[str], tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> Tensor:
    """Last hidden states (texts 77 width), as Stable Diffusion's pipelines take them."""
    tokens = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids).last_hidden_state


def loss(
    unet: UNet2DConditionModel,
    latents: Tensor,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    batch: int = 32,
) -> Loss:
    """Squared error of the predicted noise at random noise levels."""
    levels = scheduler().alphas_cumprod

    def step(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        seeds = torch.randint(len(latents), (batch,), generator=generator)
        rng = random.Random(int(seeds.sum()))
        texts = [
            "" if rng.random() < UNCONDITIONAL else caption(random_scene(int(seed)), rng) for seed in seeds
        ]
        # One noise level from each of `batch` equal parts of the schedule: the loss varies less from step to step.
        timesteps = (
            (torch.arange(batch) + torch.rand(batch, generator=generator)) * len(levels) / batch
        ).long()
        alpha = levels[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn((batch, *latents.shape[1:]), generator=generator)
        noisy = alpha.sqrt() * latents[seeds] + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            prompt_embeds = embed(texts, tokenizer, text_encoder).clone()
            noise_pred = unet(noisy, timesteps, prompt_embeds).sample
        error = (noise_pred.float() - noise).square().mean((1, 2, 3))
        snr = (alpha / (1 - alpha)).flatten()
        weight = snr.clamp(max=SNR_CAP) / snr
        return (weight * error).mean(), {"mse": error.mean().item()}

    return step
