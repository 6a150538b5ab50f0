"""A model of another kind: its latents are the pixels themselves, and its weights are drawn from a seed."""

import hashlib
from functools import cached_property
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from evenreel.plugins import Backbone, NoiseSchedule, Residuals, choose_device, choose_dtype

WORDS, WIDTH, SIDE = 16, 24, 4


class Pixels(Backbone):
    """Every SIDE x SIDE pixels are one cell, with a channel for each of their colours."""

    size_multiple = 16
    native_size = 64
    schedule = NoiseSchedule.from_config({"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"})

    def __init__(self, seed: str, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device, self.dtype = f"pixels:{seed}", device, dtype
        with torch.random.fork_rng([]):
            torch.manual_seed(int(seed))
            made = UNet2DConditionModel(
                in_channels=3 * SIDE**2,
                out_channels=3 * SIDE**2,
                block_out_channels=(32, 32, 32),
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                cross_attention_dim=WIDTH,
                attention_head_dim=4,
                norm_num_groups=8,
            )
        self._unet = made.to(device, dtype).eval().requires_grad_(False)

    @property
    def unet(self) -> UNet2DConditionModel:
        return self._unet

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()  # the weights follow from the seed

    def encode(self, frames: Tensor) -> Tensor:
        return pixel_unshuffle(2 * frames.to(self.device, torch.float32) - 1, SIDE)

    def decode(self, latents: Tensor) -> Tensor:
        return (pixel_shuffle(latents.to(self.device, torch.float32), SIDE) / 2 + 0.5).clamp(0, 1)

    def embed(self, prompts: list[str]) -> Tensor:
        def word(text: str) -> Tensor:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
            return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))

        rows = [(prompt.split() + [""] * WORDS)[:WORDS] for prompt in prompts]
        return torch.stack([torch.stack([word(text) for text in row]) for row in rows]).to(self.device)

    def predict_noise(
        self, latents: Tensor, timestep: int, prompt_embeds: Tensor, residuals: Residuals | None = None
    ) -> Tensor:
        each = len(latents) // len(prompt_embeds)  # a prompt serves so many latents, one after the other
        predicted = self._unet(
            latents.to(self.device, self.dtype),
            timestep,
            prompt_embeds.repeat_interleave(each, 0).to(self.device, self.dtype),
            down_block_additional_residuals=None if residuals is None else residuals.down,
            mid_block_additional_residual=None if residuals is None else residuals.mid,
        )
        return predicted.sample.float()


def load(location: str, *, device: Any = None, dtype: Any = None, download: bool = False) -> Backbone:
    """Make the model of a seed: `--model pixels:7`."""
    chosen = choose_device(device)
    return Pixels(location, chosen, choose_dtype(dtype, chosen))
