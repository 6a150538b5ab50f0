"""Self-attention of an image model over the frames of a video (vid2vid-zero, arXiv:2303.17599, section 3.3)."""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import hooks, layers
from evenreel.backbones.hooks import AttnProcessor
from evenreel.errors import SettingsError
from evenreel.hosts.extended_attention import attend

Tokens = Float[Tensor, "branches frames tokens channels"]
FrameTokens = Float[Tensor, "branches tokens channels"]


@dataclass
class VideoAttentionState:
    """The window of frames in the network call at hand, and what its layers know of earlier ones.

    All windows of a step see one frame, the clip's first unless told otherwise, and the last one before them, so that a
    clip may be as long as it likes. What is kept of a step is two frames' tokens for each layer.
    """

    branches: int = 1
    """Branches in the batch."""
    more: bool = False
    """Whether other windows of the step follow."""
    row: int = 0
    """Where in the first window of a step the frame lies that all frames see."""
    handed_on: int = -1
    """Where in the window the frame before the next window lies: the last one, unless windows overlap."""
    first: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of each layer, the tokens of the frame that all see."""
    last: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of each layer, the tokens of the frame before the window."""

    def before(self, name: str, tokens: Tokens) -> tuple[FrameTokens, ...]:
        """Return what a layer knows of frames before its window: of none, one or two; remembers the window for the
        next.
        """
        known = tuple(kept[name] for kept in (self.first, self.last) if name in kept)
        if self.more:
            # copies: views would keep the whole window in memory
            if known:
                self.first.setdefault(name, known[0])
            elif (
                self.handed_on % tokens.shape[1] != self.row
            ):  # else it is that frame too, and must not count twice
                self.first[name] = tokens[:, self.row].clone()
            self.last[name] = tokens[:, self.handed_on].clone()
        return known

    def turn_back(self) -> None:
        """Go back to the frame that all see: the windows that follow lie before it, and know of no other."""
        self.last = {name: self.first.get(name, tokens) for name, tokens in self.last.items()}
        self.first.clear()

    def forget(self) -> None:
        """Forget the first and the last frames of a step, which ends here."""
        self.first.clear()
        self.last.clear()


class SparseCausalAttention:
    """Every frame looks at the first and at the one before it, and only the first one at itself."""

    def __init__(self, inner: AttnProcessor, name: str, state: VideoAttentionState) -> None:
        self.inner, self.name, self.state = inner, name, state

    def __call__(self, attn: Any, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        tokens = rearrange(hidden_states, "(b f) l c -> b f l c", b=self.state.branches)
        known = self.state.before(self.name, tokens) or (tokens[:, self.state.row],)
        previous = torch.cat([known[-1][:, None], tokens[:, :-1]], dim=1)
        seen = torch.cat([known[0][:, None].expand_as(previous), previous], dim=2)
        return self.inner(attn, hidden_states, seen.flatten(0, 1))


class DenseAttention:
    """Every frame looks at all frames of its window, and at what is known of those before it."""

    def __init__(self, inner: AttnProcessor, name: str, state: VideoAttentionState) -> None:
        self.inner, self.name, self.state = inner, name, state

    def __call__(self, attn: Any, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        tokens = rearrange(hidden_states, "(b f) l c -> b f l c", b=self.state.branches)
        joined = tokens.flatten(1, 2)
        seen = torch.cat([*self.state.before(self.name, tokens), joined], dim=1)
        output = attend(self.inner, attn, joined, seen, seen)
        return rearrange(output, "b (f l) c -> (b f) l c", f=tokens.shape[1])


def video_attentions(unet: Any, state: VideoAttentionState, dense_block: int) -> dict[str, AttnProcessor]:
    """Return processors for all self-attentions, by name, wrapping those in place: dense in three of them.

    These are the first ones of a down block, of the middle, and of the up block after that of the same number; or of
    the next block where one has none (SD-XL's down block 0). Raises: SettingsError when there is no such block.
    """
    blocks = (f"down_blocks.{dense_block}", "mid_block", f"up_blocks.{dense_block + 1}")
    down = (f"down_blocks.{number}" for number in range(dense_block, len(unet.down_blocks)))
    up = (f"up_blocks.{number}" for number in range(dense_block + 1, len(unet.up_blocks)))
    dense = [_first_of(unet, candidates) for candidates in (down, ("mid_block",), up)]
    if None in dense:
        raise SettingsError(
            f"dense_block {dense_block} has no self-attention in {blocks[dense.index(None)]} of this model; "
            "choose another one."
        )
    processors = unet.attn_processors
    return {
        name: (DenseAttention if name in dense else SparseCausalAttention)(processors[name], name, state)
        for name in layers.self_attentions(unet)
    }


def _first_of(unet: Any, blocks: Iterable[str]) -> str | None:
    found = (layers.first_self_attention(unet, block) for block in blocks)
    return next((name for name in found if name is not None), None)


@contextmanager
def norms_shared(unet: Any, frames: Callable[[], int]) -> Generator[None]:
    """Let the group norms of resnets, and the last one, take mean and variance over all frames of a video.

    `frames` says how many consecutive rows of the batch are one video.
    """

    def join(rows: Tensor) -> Tensor:
        return rearrange(rows, "(v f) c h w -> v c (f h) w", f=frames())

    def cut(videos: Tensor) -> Tensor:
        return rearrange(videos, "v c (f h) w -> (v f) c h w", f=frames())

    with ExitStack() as stack:
        for norm in layers.resnet_norms(unet):
            stack.enter_context(hooks.inputs_hooked(norm, join))
            stack.enter_context(hooks.forward_hooked(norm, cut))
        yield
