"""Self-attention on merged tokens: VidToMe's local and global merging (arXiv:2312.10656, section 4.2 and 4.3)."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from evenreel.backbones.hooks import AttnProcessor
from evenreel.hosts.vidtome.chunks import MERGED_TOGETHER, ChunkPlan
from evenreel.ops.matching import Merge, Positions, Tokens, match


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """How much merges, and where."""

    local_ratio: float
    """Share of the other frames' tokens that merge in a round."""
    global_ratio: float
    """Share of the tokens that merge with those of earlier chunks."""
    global_rand: float
    """Share of the chunks in which global tokens merge into the chunk's, and not the other way round."""
    merge_global: bool
    """Whether tokens pass from chunk to chunk."""
    aligned: bool
    """Whether all branches share their decisions."""
    max_downsample: int
    """Layers at most this many times smaller than the latents merge; the others see single frames."""


@dataclass
class MergingState:
    """What the layers are to do in the network call at hand, and the tokens that pass between chunks of a step."""

    settings: MergeSettings
    latent_size: tuple[int, int] = (0, 0)
    """Height and width of the latents."""
    branches: int = 1
    """Branches in the batch."""
    chunk: ChunkPlan = field(default_factory=lambda: ChunkPlan((), (), 0.0))
    """The chunk in the batch."""
    global_tokens: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of each layer, tokens of the chunks computed so far in this step."""


class MergedAttention:
    """Joins the frames of a chunk, drops tokens that repeat, attends, and restores them."""

    def __init__(self, inner: AttnProcessor, name: str, state: MergingState) -> None:
        self.inner, self.name, self.state = inner, name, state

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        state = self.state
        if not _merges(hidden_states.shape[1], state):
            return self.inner(attn, hidden_states, *args, **kwargs)
        frames, per_frame = len(hidden_states) // state.branches, hidden_states.shape[1]
        joined = rearrange(hidden_states, "(b f) l c -> b (f l) c", f=frames)
        local = merge_frames(joined, per_frame, state.chunk.destinations, state.settings)
        tokens = local.apply(joined)
        if state.settings.merge_global:
            merged, tokens, part = self._join_global(tokens)
            output = merged.undo(self.inner(attn, tokens, *args, **kwargs))[:, part]
            state.global_tokens[self.name] = merged.undo(tokens)[:, part]
        else:
            output = self.inner(attn, tokens, *args, **kwargs)
        return rearrange(local.undo(output), "b (f l) c -> (b f) l c", f=frames)

    def _join_global(self, tokens: Tokens) -> tuple[Merge, Tensor, slice]:
        """Join a chunk's tokens with the global ones: the merge, the merged tokens, and the chunk's own part."""
        earlier = self.state.global_tokens.get(self.name)
        if earlier is None:
            return Merge.nothing(tokens.shape[1], tokens.device), tokens, slice(None)
        return merge_global(tokens, earlier, self.state.chunk.coin, self.state.settings)


def merge_frames(
    joined: Tokens, per_frame: int, destinations: tuple[int, ...], settings: MergeSettings
) -> Merge:
    """Collapse the frames of a chunk into one, in as many rounds as there are `destinations`."""
    merge, tokens = Merge.nothing(joined.shape[1], joined.device), joined
    unmerged, frames = 0, joined.shape[1] // per_frame
    for destination in destinations:
        stride = min(MERGED_TOGETHER, frames)
        sources, targets = split_frames(unmerged, frames, per_frame, stride, destination, joined.device)
        found = match(tokens, sources, targets, settings.local_ratio, aligned=settings.aligned)
        merge, tokens = merge.then(found), found.apply(tokens)
        frames = len(range(destination, frames, stride))
        unmerged = tokens.shape[1] - frames * per_frame
    return merge


def split_frames(
    unmerged: int, frames: int, per_frame: int, stride: int, destination: int, device: torch.device
) -> tuple[Positions, Tensor]:
    """Return positions that may merge, and those they may merge into, in a sequence of `unmerged` tokens and then
    frames.

    Every `stride`-th frame from `destination` is merged into. After a second round the tokens that stayed unmerged lie
    at the end, yet a third still takes the first ones for them, as the published implementation does.
    """
    positions = torch.arange(unmerged, unmerged + frames * per_frame, device=device).view(frames, per_frame)
    merged_into = torch.arange(frames, device=device) % stride == destination
    leading = torch.arange(unmerged, device=device)
    return positions[~merged_into].flatten(), torch.cat([positions[merged_into].flatten(), leading])


def merge_global(
    tokens: Tokens, earlier: Tensor, coin: float, settings: MergeSettings
) -> tuple[Merge, Tensor, slice]:
    """Merge a chunk's tokens with those of earlier chunks, or the other way round, as the coin falls.

    Returns the merge, the merged tokens, and where the chunk's own tokens lie once it is undone.
    """
    own, other = tokens.shape[1], earlier.shape[1]
    if coin > settings.global_rand:
        both, sources, part = torch.cat([tokens, earlier], dim=1), own, slice(0, own)
    else:
        both, sources, part = torch.cat([earlier, tokens], dim=1), other, slice(other, None)
    positions = torch.arange(own + other, device=tokens.device)
    merge = match(
        both, positions[:sources], positions[sources:], settings.global_ratio, aligned=settings.aligned
    )
    return merge, merge.apply(both), part


def _merges(per_frame: int, state: MergingState) -> bool:
    height, width = state.latent_size
    return math.ceil(math.sqrt(height * width // per_frame)) <= state.settings.max_downsample
