"""Prompts to hidden states: CLIP's tokenizer and text encoder."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.types import PromptEmbeds


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as a text encoder reads it."""

    ids: tuple[int, ...]
    """Its tokens, begin and end marks included, padding not."""
    words: tuple[str, ...]
    """What stands between its spaces."""
    tokens_of_words: tuple[tuple[int, ...], ...]
    """For each word, the positions of its tokens in `ids`."""
    length: int
    """Tokens that the text encoder reads, padding included."""


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

    def tokens(self, prompt: str) -> PromptTokens:
        """Which tokens a prompt has, and which of them make up each of its words."""
        self._check(prompt)
        encoding = self.tokenizer(prompt, return_offsets_mapping=True)
        words = list(re.finditer(r"\S+", prompt))
        starts = [word.start() for word in words]
        found: list[list[int]] = [[] for _ in words]
        # A token may begin inside a letter, so it is asked where it begins, not what it spells.
        for position, (start, _) in enumerate(encoding.offset_mapping[1:-1], start=1):
            if words:
                found[max(0, bisect_right(starts, start) - 1)].append(position)
        return PromptTokens(
            ids=tuple(encoding.input_ids),
            words=tuple(word.group() for word in words),
            tokens_of_words=tuple(map(tuple, found)),
            length=self.length,
        )

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
