"""Prompts to hidden states: CLIP's tokenizer and text encoder, weights of words, prompts of any length."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones.prompt_syntax import Segment, parse
from evenreel.errors import SettingsError
from evenreel.types import PromptEmbeds

LARGEST_CHUNKS = 20
"""A prompt longer than this many readings of the encoder is a mistake, and would take all memory."""
Vectors = Float[Tensor, "vectors features"]
_PLACE = 0
"""The word in whose place vectors of an embedding go. Not the end mark: texts are pooled where the first one is."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a word means that was learnt by itself (textual inversion, arXiv:2208.01618)."""

    token: str
    """The word in prompts, in whatever case."""
    vectors: Vectors
    """What stands in its place before the text encoder, as many tokens as there are rows."""
    second: Float[Tensor, "vectors _"] | None = None
    """The same before the second text encoder of a model that has two."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as a text encoder reads it."""

    ids: tuple[int, ...]
    """Its tokens, begin and end marks included, padding not."""
    words: tuple[str, ...]
    """What stands between its spaces."""
    tokens_of_words: tuple[tuple[int, ...], ...]
    """For each word, the positions of its tokens in the hidden states."""
    length: int
    """Tokens that the text encoder reads, padding included."""
    places: tuple[int, ...] = ()
    """Positions of `ids` in the hidden states; empty for 0, 1, 2, ..., as in prompts that are read at once."""

    @property
    def positions(self) -> tuple[int, ...]:
        """`places`, written out."""
        return self.places or tuple(range(len(self.ids)))

    def padded(self, length: int) -> "PromptTokens":
        """Return the same among hidden states of `length` tokens, of which the last belong to no word."""
        return PromptTokens(
            self.ids, self.words, self.tokens_of_words, max(length, self.length), self.positions
        )


@dataclass
class _Row:
    """A prompt, token by token, without marks."""

    ids: list[int]
    weights: list[float]
    vectors: list[Tensor | None]
    """In the place of the encoder's own, for tokens of embeddings."""
    words: list[int]
    """Which word of the prompt each token belongs to."""

    @classmethod
    def empty(cls) -> "_Row":
        return cls([], [], [], [])

    def extend(self, ids: Sequence[int], weight: float, words: Sequence[int]) -> None:
        self.ids += ids
        self.weights += [weight] * len(ids)
        self.vectors += [None] * len(ids)
        self.words += words

    def add_vectors(self, first_id: int, vectors: Vectors, weight: float, word: int) -> None:
        self.extend(range(first_id, first_id + len(vectors)), weight, [word] * len(vectors))
        self.vectors[-len(vectors) :] = list(vectors)

    def part(self, start: int, end: int) -> "_Row":
        return _Row(*(getattr(self, name)[start:end] for name in ("ids", "weights", "vectors", "words")))


class Encoded(NamedTuple):
    """What a text encoder makes of texts that are read at once."""

    hidden_states: PromptEmbeds
    pooled: Float[Tensor, "prompts pooled_features"] | None = None
    """Each text as one vector, from encoders with a projection."""


class PromptEncoder:
    """A CLIP text model with its tokenizer."""

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        *,
        clip_skip: int = 1,
        syntax: str = "weights",
        embeddings: Sequence[Embedding] = (),
    ) -> None:
        """`clip_skip` is the layer whose output is taken, counted from the last (1) backwards."""
        self.tokenizer, self.text_encoder, self.clip_skip = tokenizer, text_encoder, clip_skip
        self.syntax, self.embeddings = syntax, tuple(embeddings)

    @property
    def length(self) -> int:
        """Tokens that the text encoder reads at once, begin and end marks included."""
        return self.text_encoder.config.max_position_embeddings

    @property
    def text_encoders(self) -> tuple[Any, ...]:
        """The one text encoder."""
        return (self.text_encoder,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of a word before each text encoder."""
        return tuple(encoder.config.hidden_size for encoder in self.text_encoders)

    @contextmanager
    def reading(self, syntax: str, embeddings: Sequence[Embedding] = ()) -> Iterator[None]:
        """Read prompts in another way while inside: `weights` or `plain`, and with words that were learnt."""
        before = self.syntax, self.embeddings
        self.syntax, self.embeddings = syntax, tuple(embeddings)
        try:
            yield
        finally:
            self.syntax, self.embeddings = before

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Return token ids of texts without any syntax, padded to the full length: (prompts, length), int64.

        Raises: SettingsError for a text that is not text, or too long to be read at once.
        """
        for prompt in prompts:
            self._check(prompt)
            tokens = len(self.tokenizer(prompt, verbose=False).input_ids)
            if tokens > self.length:
                raise SettingsError(
                    f"the prompt '{prompt[:40]}...' has {tokens - 2} tokens, but this model reads {self.length - 2}; "
                    "shorten it."
                )
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.length, return_tensors="pt"
        ).input_ids

    def tokens(self, prompt: str) -> PromptTokens:
        """Return which tokens a prompt has, and which of them make up each of its words."""
        words: list[str] = []
        chunks = self._chunks(prompt, words)
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        ids: list[int] = []
        places: list[int] = []
        found: list[list[int]] = [[] for _ in words]
        for number, chunk in enumerate(chunks):
            first = number * self.length
            for position, word in enumerate(chunk.words, start=first + 1):
                found[word].append(position)
            ids += [begin, *chunk.ids, end]
            places += range(first, first + len(chunk.ids) + 2)
        return PromptTokens(
            ids=tuple(ids),
            words=tuple(words),
            tokens_of_words=tuple(map(tuple, found)),
            length=len(chunks) * self.length,
            places=tuple(places) if len(chunks) > 1 else (),
        )

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Return hidden states of the text encoder for prompts; the empty prompt is one too.

        A prompt of more tokens than are read at once is cut into chunks whose hidden states stand one after the other,
        as do those after a BREAK; shorter prompts beside it are filled up with empty ones. A word of weight w moves w
        times as far from what stands there in the empty prompt: z = z_empty + w (z - z_empty).

        Raises: SettingsError for a prompt that is not text, or much too long.
        """
        return torch.cat([chunk.hidden_states for chunk in self.encoded(prompts)], dim=1)

    @torch.no_grad()
    def encoded(self, prompts: list[str]) -> list[Encoded]:
        """Return what `embed` joins: prompts chunk by chunk. The text encoder pools each chunk, whatever its words
        weigh."""
        rows = [self._chunks(prompt, []) for prompt in prompts]
        count = max(map(len, rows), default=1)
        padded = [row + [_Row.empty()] * (count - len(row)) for row in rows]
        return [self._encoded([row[chunk] for row in padded]) for chunk in range(count)]

    def _encoded(self, chunks: list[_Row]) -> Encoded:
        """Rows that are read at once, their words weighed."""
        states, pooled = self._read(chunks)
        weights = torch.ones(states.shape[:2], device=states.device)
        for row, chunk in enumerate(chunks):
            weights[row, 1 : len(chunk.weights) + 1] = torch.tensor(chunk.weights, device=states.device)
        if bool((weights == 1).all()):
            return Encoded(states, pooled)
        empty = self._read([_Row.empty()]).hidden_states
        weighed = empty + weights[..., None] * (states - empty)
        return Encoded(torch.where(weights[..., None] == 1, states, weighed), pooled)

    def _read(self, chunks: list[_Row]) -> Encoded:
        marks = self.tokenizer
        ids = torch.full((len(chunks), self.length), marks.pad_token_id)
        for row, chunk in enumerate(chunks):
            known = [
                _PLACE if vector is not None else token
                for token, vector in zip(chunk.ids, chunk.vectors, strict=True)
            ]
            ids[row, : len(known) + 2] = torch.tensor([marks.bos_token_id, *known, marks.eos_token_id])
        with self._vectors_inserted(chunks):
            return self._of_layer(ids.to(self.text_encoder.device))

    def _of_layer(self, ids: Tensor) -> Encoded:
        """What the text encoder makes of tokens, of the layer that is wanted."""
        if self.clip_skip == 1:
            return Encoded(at_least_single(self.text_encoder(ids).last_hidden_state))
        found = self.text_encoder(ids, output_hidden_states=True)
        # transformers 5.6 took a level away
        inner = getattr(self.text_encoder, "text_model", self.text_encoder)
        return Encoded(at_least_single(inner.final_layer_norm(found.hidden_states[-self.clip_skip])))

    @contextmanager
    def _vectors_inserted(self, chunks: list[_Row]) -> Iterator[None]:
        """Put the vectors of embeddings in their places behind the encoder's table of words."""
        places = [
            (row, position, vector)
            for row, chunk in enumerate(chunks)
            for position, vector in enumerate(chunk.vectors, start=1)
            if vector is not None
        ]

        def insert(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            output = output.clone()
            for row, position, vector in places:
                output[row, position] = vector.to(output)
            return output

        handle = self.text_encoder.get_input_embeddings().register_forward_hook(insert) if places else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    def _chunks(self, prompt: str, words: list[str]) -> list[_Row]:
        """A prompt, cut into pieces that are read at once; its words are appended to `words`."""
        self._check(prompt)
        room = self.length - 2
        chunks: list[_Row] = []
        for piece in parse(prompt, self.syntax):
            row = self._row(piece, words)
            starts = range(0, max(1, len(row.ids)), room)
            chunks += [row.part(start, start + room) for start in starts]
        if len(chunks) > LARGEST_CHUNKS:
            raise SettingsError(
                f"the prompt '{prompt[:40]}...' is {len(chunks)} times as long as what this model reads at once, and "
                f"at most {LARGEST_CHUNKS} times is read; shorten it."
            )
        return chunks

    def _row(self, segments: Sequence[Segment], words: list[str]) -> _Row:
        row = _Row.empty()
        fresh = True  # whether the next text begins another word
        for segment in segments:
            for text, embedding in self._split(segment.text):
                if embedding is not None:
                    if fresh or not words:
                        words.append(text)
                    else:
                        words[-1] += text
                    row.add_vectors(
                        self._first_id(embedding), embedding.vectors, segment.weight, len(words) - 1
                    )
                    fresh = False
                    continue
                fresh = self._add_text(row, text, segment.weight, words, fresh=fresh)
        return row

    def _add_text(self, row: _Row, text: str, weight: float, words: list[str], *, fresh: bool) -> bool:
        """Append the tokens of a text; whether what follows it begins another word."""
        if not text:
            return fresh
        encoding = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        found = list(re.finditer(r"\S+", text))
        first = len(words)
        names = [word.group() for word in found]
        if found and found[0].start() == 0 and not fresh and words:
            words[-1] += names.pop(0)
            first -= 1
        words += names
        starts = [word.start() for word in found]
        # A token may begin inside a letter, so it is asked where it begins, not what it spells.
        numbers = [first + max(0, bisect_right(starts, start) - 1) for start, _ in encoding.offset_mapping]
        row.extend(encoding.input_ids, weight, numbers)
        return text[-1].isspace()

    def _first_id(self, embedding: Embedding) -> int:
        """A number behind those of the encoder's words, by which the tokens of an embedding are known apart."""
        earlier = self.embeddings[: self.embeddings.index(embedding)]
        return self.text_encoder.config.vocab_size + sum(len(other.vectors) for other in earlier)

    def _split(self, text: str) -> Iterator[tuple[str, Embedding | None]]:
        """Pieces of a text, with the embedding where a piece is one."""
        known = {embedding.token.lower(): embedding for embedding in self.embeddings}
        if not known:
            yield text, None
            return
        for piece in words_pattern(known).split(text):
            if piece:
                yield piece, known.get(piece.lower())

    def _check(self, prompt: str) -> None:
        if any(ord(character) == 0 or 0xD800 <= ord(character) <= 0xDFFF for character in prompt):
            raise SettingsError(
                f"the prompt {prompt!a} contains a NUL or a lone surrogate; type it again without it."
            )


def words_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds words of embeddings in a prompt, in whatever case, the longest first."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


def at_least_single(states: Tensor) -> Tensor:
    """Return numbers in single precision, or better where they are."""
    return states.to(torch.promote_types(states.dtype, torch.float32))
