"""Stable Diffusion 1.x and 2.x from a folder in diffusers' layout."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import folder
from evenreel.backbones.base import Backbone, EncodedFrames, Residuals
from evenreel.backbones.devices import choose_device, choose_dtype
from evenreel.backbones.sharing import exclusive, loaded_once
from evenreel.backbones.text import PromptEncoder, PromptTokens
from evenreel.backbones.weights import load_part, one_sentence
from evenreel.diffusion import ddim
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import WeightsError
from evenreel.types import Frames, Latents, PromptEmbeds, PromptRows

_PIXELS_PER_BATCH = 2**19
"""Pixels that the autoencoder sees together: two frames of 512 x 512, whose activations take about 2 GB."""


class StableDiffusion(Backbone):
    """A Stable Diffusion model whose parts load when they are first used."""

    def __init__(
        self, model: folder.ModelFolder, *, name: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Check the folder (a second or less; no weights are loaded yet). Raises: WeightsError."""
        model.check()
        self.name, self.device, self.dtype, self._folder = name, device, dtype, model
        config, autoencoder = model.config("unet"), model.config("vae")
        if config.get("in_channels") != autoencoder.get("latent_channels", 4) or config.get(
            "addition_embed_type"
        ):
            raise WeightsError(
                f"{name}: only plain SD 1.x and 2.x models are supported (no inpainting, no SDXL)."
            )
        self.schedule = NoiseSchedule.from_config(model.config("scheduler", "scheduler_config.json"))
        factor = 2 ** (len(autoencoder.get("block_out_channels", (0, 0, 0, 0))) - 1)
        # Latents of even sides; the UNet passes odd ones of deeper levels on to the way up by itself. Coarser
        # sizes would distort: at 128 pixels, multiples of 64 make 3:2 of 4:3.
        self.size_multiple: int = 2 * factor
        self.native_size: int = factor * config.get("sample_size", 64)

    @loaded_once
    def unet(self) -> Any:
        """The noise predictor."""
        from diffusers import UNet2DConditionModel

        return load_part(self._folder, "unet", UNet2DConditionModel, self.device, self.dtype)

    @loaded_once
    def vae(self) -> Any:
        """The autoencoder between frames and latents."""
        from diffusers import AutoencoderKL

        return load_part(self._folder, "vae", AutoencoderKL, self.device, self.dtype)

    @loaded_once
    def text(self) -> PromptEncoder:
        """The tokenizer and the text encoder."""
        from transformers import CLIPTextModel, CLIPTokenizer

        text_encoder = load_part(self._folder, "text_encoder", CLIPTextModel, self.device, self.dtype)
        with one_sentence(self._folder.path / "tokenizer"):
            tokenizer = CLIPTokenizer.from_pretrained(self._folder.path / "tokenizer", local_files_only=True)
        # A tokenizer without its vocabulary loads silently, and turns every prompt into the same two tokens.
        if not 256 < len(tokenizer) <= text_encoder.config.vocab_size:
            raise WeightsError(
                f"{self._folder.path / 'tokenizer'}: does not fit the text encoder; fetch the model again."
            )
        return PromptEncoder(tokenizer, text_encoder)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self._folder.fingerprint

    @torch.no_grad()
    def encode(self, frames: Frames) -> EncodedFrames:
        """Latents of frames: the mean of the posterior, times the autoencoder's scaling factor."""
        scale = self.vae.config.scaling_factor

        def latents_of(batch: Tensor) -> Tensor:
            return self.vae.encode(batch.to(self.dtype) * 2 - 1).latent_dist.mean.float() * scale

        return self._in_batches(frames, latents_of, frames[0, 0].numel())

    @torch.no_grad()
    def decode(self, latents: EncodedFrames) -> Frames:
        """Frames of latents, clamped to [0, 1]."""
        scale = self.vae.config.scaling_factor

        def frames_of(batch: Tensor) -> Tensor:
            decoded = self.vae.decode((batch / scale).to(self.dtype), return_dict=False)[0]
            return (decoded.float() / 2 + 0.5).clamp(0, 1)

        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self._in_batches(latents, frames_of, latents[0, 0].numel() * factor**2)

    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Hidden states of prompts. Raises: SettingsError for a prompt that cannot be read in full."""
        with exclusive(self.text):  # tokenizers cannot be used by two threads at once
            return self.text.embed(prompts).to(self.device)

    def tokens(self, prompt: str) -> PromptTokens:
        """The tokens of a prompt, and the words that they make up."""
        with exclusive(self.text):
            return self.text.tokens(prompt)

    def predict_noise(
        self,
        latents: Latents,
        timestep: int,
        prompt_embeds: PromptRows,
        residuals: Residuals | None = None,
    ) -> Latents:
        """The noise in `latents`; each prompt serves as many consecutive latents."""
        repeated = prompt_embeds.repeat_interleave(len(latents) // len(prompt_embeds), dim=0)
        # Another thread may be attached; but checkpoints are computed again in threads of autograd's own.
        with nullcontext() if torch.is_grad_enabled() else exclusive(self.unet):
            output = self.unet(
                latents.to(self.dtype),
                timestep,
                encoder_hidden_states=repeated.to(self.dtype),
                down_block_additional_residuals=None if residuals is None else residuals.down,
                mid_block_additional_residual=None if residuals is None else residuals.mid,
                return_dict=False,
            )[0].float()
        return ddim.to_noise(output, latents, self.schedule.alpha(timestep), self.schedule.prediction_type)

    def _in_batches(
        self, inputs: Float[Tensor, "frames _ _ _"], compute: Callable[[Tensor], Tensor], pixels: int
    ) -> Float[Tensor, "frames _ _ _"]:
        size = max(1, _PIXELS_PER_BATCH // pixels)
        return torch.cat([compute(batch.to(self.device)) for batch in inputs.split(size)])


def load(
    location: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    download: bool = False,
) -> StableDiffusion:
    """Open a model folder, or a model on the Hugging Face hub (fetched only with `download`)."""
    if not location.strip():
        raise WeightsError("stable-diffusion needs a model folder; write stable-diffusion:FOLDER.")
    folder.forbid_remote_code()
    chosen = choose_device(device)
    found = folder.find(location, download=download)
    return StableDiffusion(found, name=location, device=chosen, dtype=choose_dtype(dtype, chosen))
