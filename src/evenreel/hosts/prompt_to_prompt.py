"""Prompt-to-prompt (arXiv:2208.01626): the edit attends where the source does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import layers
from evenreel.backbones.base import Backbone
from evenreel.backbones.conditioning import attended_tokens
from evenreel.backbones.hooks import AttnProcessor
from evenreel.backbones.text import PromptTokens
from evenreel.errors import SettingsError
from evenreel.hosts.attention_stand_in import AttentionStandIn
from evenreel.hosts.base import EditJob
from evenreel.ops.word_alignment import CORRECTED, Alignment

Probabilities = Float[Tensor, "*rows tokens"]
"""Attention of places in a picture to the tokens of a prompt."""


@dataclass(frozen=True, kw_only=True)
class PromptMap:
    """How attention to the source's prompt becomes attention to the edit's."""

    taken: Float[Tensor, "*rows source target"]
    """Share of the attention to each source token that each token of the edit's prompt takes over."""
    kept: Float[Tensor, "*rows target"]
    """Share of its own attention that each of them keeps."""

    def apply(self, source: Probabilities, target: Probabilities) -> Probabilities:
        """Return the attention of the edit. Not normalised: its rows need not sum to 1, as published."""
        return source @ self.taken + target * self.kept

    def to(self, device: torch.device) -> "PromptMap":
        """Return the same on a device."""
        return PromptMap(taken=self.taken.to(device), kept=self.kept.to(device))

    def behind(self, tokens: int) -> "PromptMap":
        """Return the same for prompts with `tokens` in front that both share: their attention is the source's."""
        if not tokens:
            return self
        same = torch.eye(tokens, dtype=self.taken.dtype, device=self.taken.device)
        beside = same.new_zeros(tokens, self.taken.shape[1])
        below = same.new_zeros(len(self.taken), tokens)
        taken = torch.cat([torch.cat([same, beside], 1), torch.cat([below, self.taken], 1)])
        return PromptMap(taken=taken, kept=torch.cat([self.kept.new_zeros(tokens), self.kept]))


def side_by_side(maps: Sequence[PromptMap], frames: int) -> PromptMap:
    """Return the map of several clips of `frames` frames that follow each other: rows for each frame."""
    taken, kept = (torch.stack(parts) for parts in zip(*((one.taken, one.kept) for one in maps), strict=True))
    return PromptMap(taken=taken.repeat_interleave(frames, 0), kept=kept.repeat_interleave(frames, 0))


def is_replacement(source: PromptTokens, target: PromptTokens) -> bool:
    """Return whether words are swapped; else words were added or left out, and the prompts are aligned."""
    return len(source.words) == len(target.words)


def map_prompts(source: PromptTokens, target: PromptTokens, alignment: Alignment = CORRECTED) -> PromptMap:
    """Let swapped words take attention over from the words in whose place they are; of prompts with different numbers
    of words, tokens that both share take it from themselves, and new ones keep their own (section 3.2)."""
    length = target.length
    if is_replacement(source, target):
        changed = [ours != theirs for ours, theirs in zip(source.words, target.words, strict=True)]
        words = source.tokens_of_words, target.tokens_of_words
        taken = alignment.replacement(*words, changed, length)
        return PromptMap(taken=taken, kept=torch.zeros(length))
    places = source.positions, target.positions
    mapping, counts = alignment.refinement(source.ids, target.ids, length, places)
    taken = torch.zeros(length, length)
    taken[mapping, torch.arange(length)] = counts  # -1 is the last row, where it counts for nothing
    return PromptMap(taken=taken, kept=1 - counts)


def has_words(job: EditJob) -> bool:
    """Return whether there are words that attention could come from."""
    return job.prompts is not None and bool(job.prompts.source.split())


def tokens_of(backbone: Backbone, job: EditJob, option: str) -> tuple[PromptTokens, PromptTokens]:
    """Return tokens of the source's prompt and of the edit's; `option` is what asks for them.

    Raises: SettingsError for a model that does not tell.
    """
    assert job.prompts is not None, "asked before"
    length = attended_tokens(backbone.unet, job.prompt_embeds)
    try:
        source, edit = (backbone.tokens(prompt).padded(length) for prompt in job.prompts)
    except NotImplementedError as error:
        raise SettingsError(
            f"model {backbone.name} does not say which tokens make up a word; set {option} to 0."
        ) from error
    return source, edit


@dataclass(frozen=True, kw_only=True)
class TextPlan:
    """At which steps of a run attention to the prompt comes from the source."""

    prompts: PromptMap | None
    """How; None where the source's prompt has no words."""
    steps: int
    """The first steps."""

    @classmethod
    def of(cls, backbone: Backbone, job: EditJob, share: float, option: str) -> "TextPlan":
        """Return a share of the run as whole steps. Raises: SettingsError for a job or a model that `option` does not
        suit.
        """
        steps = int(share * len(job.timesteps))
        if not (steps and has_words(job)):
            return cls(prompts=None, steps=0)
        if job.source is None:
            raise SettingsError(
                f"attention of a source needs an inverted source; set {option} to 0 without one."
            )
        return cls(prompts=map_prompts(*tokens_of(backbone, job, option)), steps=steps)

    def at(self, step_index: int) -> PromptMap | None:
        """Return the map of a step; None where attention is the edit's own."""
        return self.prompts if step_index < self.steps else None


@dataclass
class PromptToPromptState:
    """What the layers are to do in the network call at hand; the session sets it."""

    branches: int = 1
    """Branches in the batch; the last one is the edit."""
    source: int = 0
    """Which branch is the source."""
    prompts: PromptMap | None = None
    """How attention to the prompt comes from the source; None leaves it alone."""
    self_attention: bool = False
    """Whether self-attention of coarse layers comes from the source."""
    latent_size: tuple[int, int] = (0, 0)
    """Height and width of the latents."""


class SourceText:
    """Attention to the prompt, with probabilities that come from the source's.

    They are linear in the source's and in the edit's own, and so is the output: what attention P A gives for values V
    is what P gives for A V. No probabilities are held, and fused kernels and LoRA work as elsewhere.
    """

    def __init__(self, inner: AttnProcessor, state: PromptToPromptState) -> None:
        self.inner, self.state = inner, state

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        state = self.state
        if state.prompts is None:
            return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)

        def edit_twice(rows: Tensor) -> Tensor:
            return torch.cat([rows, rows.chunk(state.branches)[-1]])

        # The edit's second rows are for what it takes from the source; its first ones for what it keeps.
        return self.inner(
            _TextOfSource(attn, state.branches + 1, state.source, state.prompts),
            edit_twice(hidden_states),
            edit_twice(encoder_hidden_states),
            *args,
            **kwargs,
        )


class SourceSelf:
    """Self-attention of the edit with the source's probabilities, in layers at least 4 times smaller than the latents.

    Finer ones carry texture (section 3.2 of the paper's implementation: at most 16 x 16 of 64 x 64 places).
    """

    def __init__(self, inner: AttnProcessor, state: PromptToPromptState) -> None:
        self.inner, self.state = inner, state

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        height, width = self.state.latent_size
        coarse = 16 * hidden_states.shape[1] <= height * width
        if self.state.self_attention and coarse:
            attn = _OfSource(attn, self.state.branches, self.state.source)
        return self.inner(attn, hidden_states, *args, **kwargs)


def controlled(unet: Any, state: PromptToPromptState) -> dict[str, AttnProcessor]:
    """Return processors that take attention from the source, by name, wrapping those in place."""
    wrapped = unet.attn_processors
    return {
        **{name: SourceSelf(wrapped[name], state) for name in layers.self_attentions(unet)},
        **text_controlled(unet, state),
    }


def text_controlled(unet: Any, state: PromptToPromptState) -> dict[str, AttnProcessor]:
    """Return the same for attention to the prompt alone."""
    wrapped = unet.attn_processors
    return {name: SourceText(wrapped[name], state) for name in layers.text_attentions(unet)}


class _OfSource(AttentionStandIn):
    """An attention module that gives the last of several `groups` of rows the queries and keys of the source's."""

    def __init__(self, attn: Any, groups: int, source: int) -> None:
        super().__init__(attn)
        self._groups, self._source = groups, source

    def to_q(self, hidden_states: Tensor) -> Tensor:
        return self._ending_with_source(self._attn.to_q, hidden_states)

    def to_k(self, hidden_states: Tensor) -> Tensor:
        return self._ending_with_source(self._attn.to_k, hidden_states)

    def _ending_with_source(self, project: Any, hidden_states: Tensor) -> Tensor:
        *others, _ = hidden_states.chunk(self._groups)
        rows = project(torch.cat(others))
        return torch.cat([rows, rows.chunk(len(others))[self._source]])


class _TextOfSource(_OfSource):
    """The same for attention to prompts, where the last two groups are the edit's and are added up in the end."""

    def __init__(self, attn: Any, groups: int, source: int, prompts: PromptMap) -> None:
        super().__init__(attn, groups, source)
        self._prompts = prompts

    def to_v(self, encoder_hidden_states: Tensor) -> Tensor:
        *others, _ = encoder_hidden_states.chunk(self._groups)
        *others, edit = self._attn.to_v(torch.cat(others)).chunk(len(others))
        prompts = self._prompts.behind(edit.shape[1] - self._prompts.kept.shape[-1])
        kept, taken = prompts.kept.to(edit), prompts.taken.to(edit)
        return torch.cat([*others, kept[..., None] * edit, taken @ edit])

    @property
    def to_out(self) -> tuple[Any, ...]:
        linear, *rest = self._attn.to_out

        def with_added(attended: Tensor) -> Tensor:
            return linear(self._added(attended))

        return (with_added, *rest)

    def _added(self, attended: Tensor) -> Tensor:
        *others, kept, taken = attended.chunk(self._groups)
        return torch.cat([*others, kept + taken])
