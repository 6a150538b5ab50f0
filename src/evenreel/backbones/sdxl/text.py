"""Prompts as Stable Diffusion XL reads them: with two text encoders, whose hidden states stand side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from evenreel.backbones.conditioning import with_pooled
from evenreel.backbones.text import Embedding, Encoded, PromptEncoder, PromptTokens, at_least_single
from evenreel.errors import WeightsError
from evenreel.types import PromptEmbeds


class _LayerEncoder(PromptEncoder):
    """One of the two: the last layer but one counts as the last, and no norm follows."""

    def _of_layer(self, ids: Tensor) -> Encoded:
        found = self.text_encoder(ids, output_hidden_states=True)
        states = at_least_single(found.hidden_states[-1 - self.clip_skip])
        pooled = getattr(found, "text_embeds", None)
        return Encoded(states, None if pooled is None else at_least_single(pooled))


class TwoPromptEncoders:
    """CLIP's and OpenCLIP's text model, each with its tokenizer; the second one pools."""

    def __init__(
        self,
        tokenizers: tuple[Any, Any],
        text_encoders: tuple[Any, Any],
        *,
        clip_skip: int = 1,
        empty_is_zero: bool = True,
    ) -> None:
        """`clip_skip` counts layers backwards from the one that the model was trained with (1).

        With `empty_is_zero` an empty prompt is nothing but zeros, as in the model's training.
        """
        self.first, self.second = (
            _LayerEncoder(tokenizer, encoder, clip_skip=clip_skip)
            for tokenizer, encoder in zip(tokenizers, text_encoders, strict=True)
        )
        self.empty_is_zero = empty_is_zero

    @property
    def text_encoders(self) -> tuple[Any, ...]:
        """Both text encoders."""
        return self.first.text_encoder, self.second.text_encoder

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of a word before each text encoder."""
        return self.first.widths + self.second.widths

    @property
    def syntax(self) -> str:
        """How prompts are read, `weights` or `plain`."""
        return self.first.syntax

    @contextmanager
    def reading(self, syntax: str, embeddings: Sequence[Embedding] = ()) -> Iterator[None]:
        """Read prompts in another way while inside: `weights` or `plain`, and with words that were learnt."""
        seconds = [
            replace(word, vectors=word.vectors if word.second is None else word.second) for word in embeddings
        ]
        with self.first.reading(syntax, embeddings), self.second.reading(syntax, seconds):
            yield

    def tokens(self, prompt: str) -> PromptTokens:
        """Return which tokens a prompt has, and which of them make up each of its words."""
        return self.first.tokens(prompt)

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Return hidden states of prompts, the features of both encoders side by side, and behind them the pooled text.

        A prompt of several chunks is pooled by its first one. Raises: SettingsError for a prompt that is not text, or
        much too long.
        """
        first, second = self.first.encoded(prompts), self.second.encoded(prompts)
        if len(first) != len(second):
            raise WeightsError(
                "the two tokenizers of this model cut a prompt into different numbers of chunks; fetch the model again."
            )
        hidden_states = torch.cat(
            [
                torch.cat([own.hidden_states, other.hidden_states], dim=-1)
                for own, other in zip(first, second, strict=True)
            ],
            dim=1,
        )
        assert second[0].pooled is not None, "its class has a projection"
        embeds = with_pooled(hidden_states, second[0].pooled)
        if self.empty_is_zero:
            embeds[[not prompt for prompt in prompts]] = 0
        return embeds
