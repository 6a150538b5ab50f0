"""Cross-frame attention: every frame looks at the first one (Text2Video-Zero, arXiv:2303.13439, section 3.3.2)."""

from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from evenreel.backbones import layers
from evenreel.backbones.hooks import AttnProcessor
from evenreel.hosts.injection import InjectionState, SourceAttention


@dataclass
class FirstFrameState:
    """What the layers are to do in the network call at hand; the session sets it."""

    branches: int = 1
    """Branches in the batch."""
    with_source: bool = False
    """Whether the first of them is the source."""
    more: bool = False
    """Whether calls follow in the same step, which need not hold the frame that all look at."""
    row: int = 0
    """Where in the first batch of a step the frame lies that all look at."""
    anchors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of each layer, what the first frame had there, by branch; lives for one step."""


class FirstFrameAttention:
    """Queries of each frame, keys and values of the first frame of its branch; the source looks at itself only.

    The first frame, or another that was chosen in its place, is in the batch, or was in the first call of the step.
    Frames are laid end to end, so that keys and values are computed once for all of them, and no matrix of frames by
    frames arises.

    What is injected are the source's queries of the frame and its keys of the first one: values come from the edit's
    first frame, so each place takes them from where the source saw the same thing.
    """

    def __init__(
        self, plain: AttnProcessor, name: str, state: FirstFrameState, injection: InjectionState | None
    ) -> None:
        """Attend by means of `plain`; `injection` is None in layers without injection."""
        self.plain, self.name, self.state, self.injection = plain, name, state, injection
        self.inner = plain if injection is None else SourceAttention(plain, injection)

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        tokens = rearrange(hidden_states, "(b f) l c -> b f l c", b=self.state.branches)
        frames, anchor = tokens.shape[1], self._anchor(tokens)
        if not self.state.with_source:
            return self._across(attn, tokens, anchor)
        # Seen across frames, the source serves injection alone.
        first = 0 if self.injection is not None and self.injection.attention else 1
        across = self._across(attn, tokens[first:], anchor[first:])
        return torch.cat([self.plain(attn, tokens[0], *args, **kwargs), across[(1 - first) * frames :]])

    def _across(self, attn: Any, tokens: Tensor, anchor: Tensor) -> Tensor:
        output = self.inner(attn, tokens.flatten(1, 2), anchor)
        return rearrange(output, "b (f l) c -> (b f) l c", f=tokens.shape[1])

    def _anchor(self, tokens: Tensor) -> Tensor:
        anchor = self.state.anchors.get(self.name)
        if anchor is not None:
            return anchor
        if self.state.more:
            # a copy: a view would keep all other frames' tokens in memory too
            self.state.anchors[self.name] = tokens[:, self.state.row].clone()
        return tokens[:, self.state.row]


def first_frame_attentions(
    net: Any, state: FirstFrameState, injection: InjectionState | None = None, *, label: str = ""
) -> dict[str, FirstFrameAttention]:
    """Return processors for all self-attentions of a UNet or ControlNet, by name, wrapping those in place.

    Networks that share a `state` have different labels.
    """
    injected = layers.decoder_self_attentions(net) if injection is not None else ()
    inner = net.attn_processors
    return {
        name: FirstFrameAttention(inner[name], label + name, state, injection if name in injected else None)
        for name in layers.self_attentions(net)
    }
