"""The corrected bounds of the theory on a model's attention to prompts, and on CLIP's vision tokens."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from evenreel.backbones import hooks, layers
from evenreel.backbones.clip import ClipModel
from evenreel.theory import attention, tokens
from evenreel.theory.measured import Measured, draw
from evenreel.types import Frames, PromptEmbeds
from evenreel.workflows.theory.measures import Finding, Run, block_of, worst_of


def on_attention(run: Run, other: PromptEmbeds) -> Iterator[Finding]:
    """Measure C.10, C.12 and C.13 on every attention to the prompt: the tokens of another prompt against the run's
    own."""
    step = len(run.timesteps) // 2
    latents, timestep = run.path[step][:1], run.timesteps[step]
    seen: list[dict[str, tuple[Tensor, Tensor]]] = []
    for embeds in (other, run.prompt_embeds):
        kept: dict[str, tuple[Tensor, Tensor]] = {}
        with (
            torch.no_grad(),
            hooks.processors_installed(run.backbone.unet, _recorders(run.backbone.unet, kept)),
        ):
            run.backbone.predict_noise(latents, timestep, embeds)
        seen.append(kept)
    for name in seen[0]:
        inputs = [one.double().cpu() for kept in seen for one in kept[name]]
        errors, rows, softmaxes, ceilings, floors = [], [], [], [], []
        for head in heads_of(layers.attention(run.backbone.unet, name)):
            errors.append(attention.output_error(head, *inputs))
            rows.append(attention.row_error(head, *inputs))
            scores = head.scores(*inputs[:2])
            softmaxes.append(attention.softmax_change(scores, head.scores(*inputs[2:])))
            ceiling, floor = attention.softmax_norm(scores)
            ceilings.append(ceiling)
            floors.append(floor)
        whole = Measured(
            what=errors[0].what,
            value=math.hypot(*(one.value for one in errors)),
            bound=math.hypot(*(one.bound for one in errors)),
        )
        where = f"{block_of(name)}, t = {timestep}, another prompt"
        for statement, measured in (
            ("C.10", whole),
            ("C.10", worst_of(rows)),
            ("C.12", worst_of(softmaxes)),
            ("C.13", worst_of(ceilings)),
            ("C.13", worst_of(floors)),
        ):
            yield Finding(statement=statement, where=where, measured=measured)


def on_tokens(clip: ClipModel, frames: Frames) -> Iterator[Finding]:
    """Measure C.15 on CLIP's vision tokens: one frame's, all and averaged in pairs (GE eq. 13), then those of more
    frames."""
    hidden = clip.frame_tokens(frames).double()
    averaged = (hidden[:, 0::2] + hidden[:, 1::2]) / 2
    stacks = {"1 frame, all tokens": hidden[0]}
    stacks |= {
        f"{count} frames, averaged in pairs": averaged[:count].flatten(0, 1)
        for count in range(1, len(frames) + 1)
    }
    for where, vision in stacks.items():
        values = torch.linalg.svdvals(vision)
        spread = f"singular values {values[0]:.3g} to {values[-1]:.3g}"
        note = f"rank {tokens.rank(vision)} of {len(vision)} tokens, width {vision.shape[1]}, {spread}"
        wanted = draw(len(vision), 32, seed=0)
        share = (tokens.left_over(vision, wanted) / wanted.norm().item()) ** 2
        yield Finding(
            statement="C.15", where=where, note=note,
            measured=Measured(
                what="share of a random U* out of reach, against 1 - rank H / N_u",
                # a draw lies around the mean
                value=share, bound=1 - tokens.reached_share(vision), slack=0.02,
            ),
        )  # fmt: skip


def heads_of(layer: Any) -> list[attention.Head]:
    """Return the heads of an attention layer of diffusers, in float64. Its queries, keys and values have no bias."""
    q, k, v = (
        one.weight.detach().double().cpu().unflatten(0, (layer.heads, -1))
        for one in (layer.to_q, layer.to_k, layer.to_v)
    )
    return [attention.Head(*(matrix.T for matrix in head)) for head in zip(q, k, v, strict=True)]


class _Recorder:
    """Keeps what a layer attends from and to."""

    def __init__(self, inner: hooks.AttnProcessor, kept: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
        self.inner, self.kept, self.name = inner, kept, name

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        self.kept[self.name] = (hidden_states[0], encoder_hidden_states[0])
        return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def _recorders(unet: Any, kept: dict[str, tuple[Tensor, Tensor]]) -> dict[str, hooks.AttnProcessor]:
    inner = unet.attn_processors
    return {name: _Recorder(inner[name], kept, name) for name in layers.text_attentions(unet)}
