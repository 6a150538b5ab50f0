"""Stable Diffusion XL: what it does otherwise than the models before it."""

from typing import Any

import torch

from evenreel.backbones.base import Guidance
from evenreel.backbones.sdxl.text import TwoPromptEncoders
from evenreel.backbones.sdxl_folder import SECOND
from evenreel.backbones.sharing import loaded_once
from evenreel.backbones.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """A Stable Diffusion XL base model, whose prompts end with their pooled text (`conditioning`)."""

    family = "sdxl"
    guidance = Guidance(edit=5.0, generate=5.0)  # diffusers' default for these models

    @loaded_once
    def text(self) -> TwoPromptEncoders:
        """Both tokenizers and text encoders."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        encoders = (
            self._part("text_encoder").load(CLIPTextModel, self._home, self.dtype),
            self._part(SECOND).load(CLIPTextModelWithProjection, self._home, self.dtype),
        )
        tokenizers = (
            self._opened_tokenizer("tokenizer", encoders[0].config.vocab_size),
            self._opened_tokenizer("tokenizer_2", encoders[1].config.vocab_size),
        )
        model: Any = self._model
        return TwoPromptEncoders(
            tokenizers, encoders, clip_skip=self._clip_skip, empty_is_zero=model.empty_is_zero
        )

    def _opened_tokenizer(self, name: str, vocabulary: int) -> Any:
        tokenizer = super()._opened_tokenizer(name, vocabulary)
        if self._tokenizer is not None and name == "tokenizer_2":
            tokenizer.add_special_tokens({"pad_token": "!"})  # in which alone the two differ
        return tokenizer

    @property
    def _vae_dtype(self) -> torch.dtype:
        """Single precision where half makes the autoencoder overflow, which its configuration says."""
        forced = self._autoencoder.config.get("force_upcast", True)
        return torch.float32 if forced and self.dtype == torch.float16 else self.dtype
