"""TokenFlow's two kinds of self-attention (arXiv:2307.10373, section 4): of keyframes, and of the frames between.

Keyframes attend to one another. The frames between do not attend: each of their tokens takes the attention output of
the keyframes' tokens that it resembles most in the source clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from evenreel.backbones.hooks import AttnProcessor
from evenreel.hosts.extended_attention import attend
from evenreel.hosts.injection import InjectionState
from evenreel.hosts.tokenflow.keyframes import Flow
from evenreel.ops.correspondence import directions, nearest

BranchTokens = Float[Tensor, "branches frames tokens channels"]
SourceTokens = Float[Tensor, "frames tokens channels"]
Matches = Int[Tensor, "frames tokens"]


@dataclass(frozen=True)
class Kept:
    """What a layer keeps of a keyframe."""

    keys: Float[Tensor, "tokens channels"]
    """Directions of its source tokens, to be matched with."""
    output: Float[Tensor, "branches tokens channels"]
    """What attention made of it, of each branch that others take from."""


Matcher = Callable[[str, int, Sequence[int], SourceTokens, Kept], Matches]
"""(layer, keyframe, frames, directions of their source tokens, what is kept) -> for each a token of the keyframe."""


def resemblance(
    _layer: str, _keyframe: int, _frames: Sequence[int], tokens: SourceTokens, kept: Kept
) -> Matches:
    """Return the matcher of the paper: tokens of the source clip that point in the most similar direction."""
    return nearest(tokens, kept.keys)


@dataclass
class PropagationState:
    """What the layers are to do in the network call at hand, and what they keep of the keyframes of a step."""

    injection: InjectionState
    """Its branches, of which the source is the first, and whether attention is injected."""
    matcher: Matcher
    source_takes: bool
    """Whether the source branch, too, takes from keyframes; otherwise it is what it would be alone."""
    frames: tuple[int, ...] = ()
    """The frames in the batch."""
    flows: tuple[Flow, ...] | None = None
    """What these take from keyframes; None where they are keyframes themselves."""
    keyframe_rows: tuple[int, ...] = ()
    """Where keyframes lie in a batch that holds the frames between too; they attend first, layer by layer."""
    kept: dict[int, dict[str, Kept]] = field(default_factory=dict[int, "dict[str, Kept]"])
    """By keyframe and layer."""
    shares_context: bool = False
    """Whether the keyframes in the batch are to be seen by those of later batches."""
    context: dict[str, BranchTokens] = field(default_factory=dict[str, "BranchTokens"])
    """By layer, tokens of keyframes that were to be."""

    def clear(self) -> None:
        """Forget what the keyframes of a step gave, so that the next one begins anew."""
        self.kept.clear()
        self.context.clear()


class PropagatedAttention:
    """Self-attention of keyframes, kept; of all other frames, taken from what was kept."""

    def __init__(self, inner: AttnProcessor, name: str, state: PropagationState, *, injects: bool) -> None:
        self.inner, self.name, self.state, self.injects = inner, name, state, injects

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        state = self.state
        tokens = rearrange(hidden_states, "(b f) l c -> b f l c", b=state.injection.branches)
        if state.flows is None:
            output = self._of_keyframes(attn, tokens, state.frames)
        else:
            if rows := list(state.keyframe_rows):
                self._of_keyframes(attn, tokens[:, rows], [state.frames[row] for row in rows])
            output = propagate(self.name, tokens[0], state.flows, state)
            if not state.source_takes:
                output = torch.cat([self.inner(attn, tokens[0])[None], output])
        return output.flatten(0, 1)

    def _of_keyframes(self, attn: Any, tokens: BranchTokens, frames: Sequence[int]) -> BranchTokens:
        state = self.state
        alone = self.inner(attn, tokens[0])[None]
        seen = tokens
        if (context := state.context.get(self.name)) is not None:
            seen = torch.cat([tokens, context], dim=1)
        asking, asked = (tokens[:1], seen[:1]) if self._from_source else (tokens[1:], seen[1:])
        together = attend(self.inner, attn, _joined(asking), _joined(asked), _joined(seen[1:]))
        output = torch.cat([alone, together.view_as(tokens[1:])])
        if state.shares_context:
            state.context[self.name] = tokens
        taken = output if state.source_takes else output[1:]
        for row, (frame, keys) in enumerate(zip(frames, directions(tokens[0]), strict=True)):
            # Copies, so that a keyframe that is forgotten leaves nothing behind.
            state.kept.setdefault(frame, {})[self.name] = Kept(keys.clone(), taken[:, row].clone())
        return output

    @property
    def _from_source(self) -> bool:
        return self.injects and self.state.injection.attention


def propagate(
    layer: str, source: SourceTokens, flows: Sequence[Flow], state: PropagationState
) -> BranchTokens:
    """Return the attention output of frames that are not keyframes (arXiv:2307.10373, eq. 3 and 4), from their source
    tokens."""
    given = {flow.keyframe: state.kept[flow.keyframe][layer] for flow in flows}
    first, ways = given[flows[0].keyframe].output, directions(source)
    output = first.new_zeros(len(first), *source.shape)
    for flow in flows:
        kept, rows = given[flow.keyframe], list(flow.rows)
        frames = [state.frames[row] for row in rows]
        matches = state.matcher(layer, flow.keyframe, frames, ways[rows], kept)
        output[:, rows] += first.new_tensor(flow.weights).view(-1, 1, 1) * kept.output[:, matches]
    return output


def _joined(tokens: BranchTokens) -> Float[Tensor, "branches all_tokens channels"]:
    return tokens.flatten(1, 2)
