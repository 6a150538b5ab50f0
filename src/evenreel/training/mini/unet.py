"""The mini model's UNet: SD 1.x's layer names and order, on latents, told by the frozen text tower."""

from typing import NamedTuple

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel

from evenreel.diffusion import ddim
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.latents import SceneLatents, tokens_of
from evenreel.training.noise_loss import min_snr_weights
from evenreel.training.trainee import Trainee, autocast

UNCONDITIONAL = 0.1
"""Share of captions left out, for classifier-free guidance."""


def build(text_width: int) -> UNet2DConditionModel:
    """Return an untrained UNet of 17 million parameters."""
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
    """Return SD 1.x's noise schedule."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )


class NoisyBatch(NamedTuple):
    """Clean latents, and what is needed to make them noisy."""

    latents: Float[Tensor, "pictures channels height width"]
    noise: Float[Tensor, "pictures channels height width"]
    timesteps: Int[Tensor, "pictures"]
    prompt_embeds: Float[Tensor, "pictures tokens features"]


class UNetTrainee(Trainee):
    """Squared error of the predicted noise at random noise levels."""

    attentions = ("plain", "fused")
    static = True
    alphas_cumprod: Tensor

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("alphas_cumprod", scheduler().alphas_cumprod, persistent=False)

    def use_attention(self, kind: str) -> None:
        """Compute attention so. `plain` is faster on CPUs, whose fused kernel's backward pass takes half as long again
        for so few tokens."""
        self.unet.set_attn_processor(AttnProcessor() if kind == "plain" else AttnProcessor2_0())

    def forward(self, batch: NoisyBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one micro-batch, and its figures."""
        alpha = self.alphas_cumprod[batch.timesteps].view(-1, 1, 1, 1)
        noisy = ddim.add_noise(batch.latents, batch.noise, alpha)
        inner = self.unet.dtype
        noise_pred = self.unet(
            noisy.to(inner), batch.timesteps, batch.prompt_embeds.to(inner), return_dict=False
        )[0]
        error = (noise_pred.float() - batch.noise).square().mean((1, 2, 3))
        return (min_snr_weights(alpha.flatten()) * error).mean(), {"mse": error.mean().detach()}


class Drawn:
    """Micro-batches by number: noisy latents of random scenes, under random captions of theirs or none."""

    def __init__(
        self,
        scenes: SceneLatents,
        text_encoder: CLIPTextModel,
        *,
        batch: int,
        seed: int,
        dtype: str = "float32",
    ) -> None:
        self.scenes, self.batch, self.seed, self.dtype = scenes, batch, seed, dtype
        self.following: SceneLatents | None = None
        """Scenes of the next part, which are made as soon as these are complete."""
        self.unconditional = UNCONDITIONAL
        self._text_encoder = text_encoder.to(scenes.device)
        self._nothing = tokens_of([""]).to(scenes.device)
        self._levels = len(scheduler().alphas_cumprod)

    def __call__(self, number: int) -> NoisyBatch:
        """The micro-batch of a number; on a GPU, of what has been rendered so far."""
        scenes, device, batch = self.scenes, self.scenes.device, self.batch
        self.take()
        generator = generator_of(device, "unet", self.seed, number)
        rows = torch.randint(scenes.ready, (batch,), generator=generator, device=device)
        frames = torch.randint(scenes.data.frames, (batch,), generator=generator, device=device)
        latents = scenes.latents[rows, frames].float()
        return NoisyBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator, device=device),
            timesteps=self.timesteps(batch, generator),
            prompt_embeds=self.embedded(rows, generator),
        )

    def take(self) -> None:
        """Take in what has been rendered since; when these scenes are complete, of the next part's."""
        if not self.scenes.take() and self.scenes.is_complete and self.following is not None:
            self.following.start().take()

    def timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Return one noise level from each of `count` equal parts of the schedule: the loss varies less from step to
        step.
        """
        device = self.scenes.device
        places = torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)
        return (places * self._levels / count).long().clamp(max=self._levels - 1)

    @torch.no_grad()
    def embedded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return hidden states of a random caption of each scene, or of none."""
        scenes, device = self.scenes, self.scenes.device
        which = torch.randint(scenes.data.captions, (len(rows),), generator=generator, device=device)
        dropped = torch.rand(len(rows), generator=generator, device=device) < self.unconditional
        tokens = torch.where(dropped[:, None], self._nothing, scenes.tokens[rows, which])
        with autocast(device, self.dtype):
            return self._text_encoder(tokens.long()).last_hidden_state.float()
