"""Prompts to hidden states: CLIP's tokenizer and text encoder."""

from typing import Any

import torch
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.types import PromptEmbeds


class PromptEncoder:
    """A CLIP text model with its tokenizer."""

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    @property
    def length(self) -> int:
        """Tokens that the text encoder reads, begin and end marks included."""
        return self.text_encoder.config.max_position_embeddings

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token ids of prompts, padded to the full length: (prompts, length), int64.

        Raises: SettingsError for a prompt that is no text, or too long to be read to its end.
        """
        for prompt in prompts:
            self._check(prompt)
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.length, return_tensors="pt"
        ).input_ids

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Last hidden states of the text encoder for prompts; the empty prompt is one too."""
        token_ids = self.tokenize(prompts).to(self.text_encoder.device)
        return self.text_encoder(token_ids).last_hidden_state.float()

    def _check(self, prompt: str) -> None:
        if any(ord(character) == 0 or 0xD800 <= ord(character) <= 0xDFFF for character in prompt):
            raise SettingsError(
                f"the prompt {prompt!a} contains a NUL or a lone surrogate; type it again without it."
            )
        tokens = len(self.tokenizer(prompt, verbose=False).input_ids)
        if tokens > self.length:
            raise SettingsError(
                f"the prompt '{prompt[:40]}...' has {tokens - 2} tokens, but this model reads {self.length - 2}; "
                "shorten it."
            )
