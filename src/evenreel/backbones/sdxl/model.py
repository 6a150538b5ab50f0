"""Stable Diffusion XL: what it does otherwise than the models before it."""

from pathlib import Path
from typing import Any

import torch

from evenreel.backbones.base import Guidance
from evenreel.backbones.sdxl.text import TwoPromptEncoders
from evenreel.backbones.sdxl_folder import SECOND
from evenreel.backbones.sharing import loaded_once
from evenreel.backbones.stable_diffusion import StableDiffusion
from evenreel.errors import WeightsError


class StableDiffusionXL(StableDiffusion):
    """A Stable Diffusion XL base model, whose prompts end with their pooled text (`conditioning`)."""

    family = "sdxl"
    guidance = Guidance(edit=5.0, generate=5.0)  # diffusers' default for these models

    @loaded_once
    def text(self) -> TwoPromptEncoders:
        """Both tokenizers and text encoders."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        encoders = (
            self._part("text_encoder").load(CLIPTextModel, self.device, self.dtype),
            self._part(SECOND).load(CLIPTextModelWithProjection, self.device, self.dtype),
        )
        tokenizers = (
            self._opened_tokenizer("tokenizer", encoders[0].config.vocab_size),
            self._opened_tokenizer("tokenizer_2", encoders[1].config.vocab_size),
        )
        model: Any = self._model
        return TwoPromptEncoders(
            tokenizers, encoders, clip_skip=self._clip_skip, empty_is_zero=model.empty_is_zero
        )

    def _check_tokenizer(self, tokenizer: Path) -> None:
        raise WeightsError(
            f"{self.name}: Stable Diffusion XL has two tokenizers, which {tokenizer} cannot stand for; leave "
            "tokenizer out."
        )

    @property
    def _vae_dtype(self) -> torch.dtype:
        """Single precision where half makes the autoencoder overflow, which its configuration says."""
        forced = self._autoencoder.config.get("force_upcast", True)
        return torch.float32 if forced and self.dtype == torch.float16 else self.dtype
