"""Plug-and-play injection (arXiv:2211.12572): the edit takes layout from the source's attention and features."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evenreel.backbones import hooks, layers
from evenreel.errors import SettingsError
from evenreel.hosts.attention_stand_in import AttentionStandIn
from evenreel.hosts.base import EditJob


class Injected(NamedTuple):
    """What is injected at one step."""

    attention: bool
    """Whether queries and keys of the decoder's self-attentions come from the source."""
    features: bool
    """Whether a decoder resnet's features come from the source."""


@dataclass(frozen=True, kw_only=True)
class InjectionPlan:
    """At which steps of a run what is injected."""

    attention_steps: int
    """First steps at which queries and keys of the decoder's self-attentions come from the source."""
    feature_steps: int
    """First steps at which a decoder resnet's features come from the source."""

    @classmethod
    def of(cls, job: EditJob, pnp_attn: float, pnp_conv: float) -> "InjectionPlan":
        """Return shares of the run as whole steps. Raises: SettingsError when the job has no source to inject from."""
        steps = len(job.timesteps)
        plan = cls(attention_steps=int(steps * pnp_attn), feature_steps=int(steps * pnp_conv))
        if plan.steps and job.source is None:
            raise SettingsError(
                "injection needs an inverted source; set pnp_attn and pnp_conv to 0 without one."
            )
        return plan

    @property
    def steps(self) -> int:
        """First steps at which anything is injected."""
        return max(self.attention_steps, self.feature_steps)

    def at(self, step_index: int) -> "Injected":
        """Say what is injected at a step."""
        return Injected(step_index < self.attention_steps, step_index < self.feature_steps)


@dataclass
class InjectionState:
    """What the layers are to do in the network call at hand; the session sets it."""

    branches: int = 1
    """Branches in the batch; the source is the first."""
    attention: bool = False
    """Whether queries and keys come from the source."""
    features: bool = False
    """Whether resnet features come from the source."""


class SourceAttention:
    """Attention probabilities of the source branch, applied to each branch's own values."""

    def __init__(self, inner: hooks.AttnProcessor, state: InjectionState) -> None:
        self.inner, self.state = inner, state

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.state.attention:
            attn = _QueriesOfSource(attn, self.state.branches)
        return self.inner(attn, hidden_states, *args, **kwargs)


class _QueriesOfSource(AttentionStandIn):
    """An attention module whose query and key projections see the source branch in every branch."""

    def __init__(self, attn: Any, branches: int) -> None:
        super().__init__(attn)
        self._branches = branches

    def to_q(self, hidden_states: Tensor) -> Tensor:
        return self._of_source(self._attn.to_q, hidden_states)

    def to_k(self, hidden_states: Tensor) -> Tensor:
        return self._of_source(self._attn.to_k, hidden_states)

    def _of_source(self, project: Any, hidden_states: Tensor) -> Tensor:
        return project(hidden_states.chunk(self._branches)[0]).repeat(self._branches, 1, 1)


def source_attentions(unet: Any, state: InjectionState) -> dict[str, SourceAttention]:
    """Return processors that inject attention, by name, wrapping those in place."""
    inner = unet.attn_processors  # searched for anew at each mention
    return {name: SourceAttention(inner[name], state) for name in layers.decoder_self_attentions(unet)}


@contextmanager
def features_injected(unet: Any, state: InjectionState) -> Generator[None]:
    """Inject a resnet's features: the output of its second convolution, before the shortcut is added."""
    _, resnet = layers.injection_resnet(unet)

    def from_source(output: Tensor) -> Tensor:
        if not state.features:
            return output
        return torch.cat([output.chunk(state.branches)[0]] * state.branches)

    with hooks.forward_hooked(resnet.conv2, from_source):
        yield
