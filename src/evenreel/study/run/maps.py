"""What a model looks at and computes inside while it edits: attention to words, and feature maps, as pictures.

Seen through processors that wrap those in place and through forward hooks; a map is reduced to one channel of the
size of the latents as soon as it is there, so that memory stays small.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel import random
from evenreel.adapters.features import features_collected
from evenreel.backbones import Backbone, hooks, layers
from evenreel.diffusion import ddim
from evenreel.hosts.base import PrefixOf
from evenreel.settings import EditSettings
from evenreel.types import Frames, Latents
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from evenreel.workflows.world.edits import edit_frames

Maps = Float[Tensor, "frames rows columns"]
"""One number for each place."""

_WAY = ("down", "mid", "up")
"""In which order a UNet's layers work."""


@dataclass
class _Looking:
    """What is looked for, and what was seen so far; dies with the item."""

    words: Tensor
    """Positions of tokens in the prompt."""
    length: int
    """Tokens of the prompt; an adapter's stand before them."""
    wanted: frozenset[int]
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    timestep: int | None = None
    """Of the noise prediction at hand; None before the sampling."""
    sums: dict[tuple[int, str], Tensor] = field(default_factory=dict[tuple[int, str], Tensor])
    """By timestep and layer."""
    counts: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])

    def begin(self, timestep: int, latents: Latents) -> None:
        self.timestep, self.frames, self.size = timestep, len(latents), (latents.shape[2], latents.shape[3])

    @torch.no_grad()
    def see(self, layer: str, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> None:
        """Add one layer's attention to the words, in the last branch: that of the edit's prompt."""
        if self.timestep is None or self.timestep not in self.wanted:
            return
        queries, keys = (
            attn.head_to_batch_dim(project(states[-self.frames :]))
            for project, states in ((attn.to_q, hidden_states), (attn.to_k, encoder_hidden_states))
        )
        shares = attn.get_attention_scores(queries, keys).unflatten(0, (self.frames, -1)).mean(1)
        own = shares[..., shares.shape[-1] - self.length :][..., self.words].sum(-1).float().cpu()
        fine = _enlarged(own, self.size)
        place = self.timestep, layer
        self.sums[place] = self.sums.get(place, 0) + fine
        self.counts[place] = self.counts.get(place, 0) + 1


class _Seen:
    """An attention to the prompt, looked at and then computed as before."""

    def __init__(self, layer: str, inner: hooks.AttnProcessor, looking: _Looking) -> None:
        self.layer, self.inner, self.looking = layer, inner, looking

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        self.looking.see(self.layer, attn, hidden_states, encoder_hidden_states)
        return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def attention_maps(
    backbone: Backbone, frames: Frames, settings: EditSettings, timesteps: Sequence[int]
) -> dict[int, Maps]:
    """Return how much each place of each frame attends to the words by which the prompt differs from the source's, mean
    over layers; see `layer_maps`."""
    found = layer_maps(backbone, frames, settings, timesteps)
    return {timestep: torch.stack(list(of_layer.values())).mean(0) for timestep, of_layer in found.items()}


def layer_maps(
    backbone: Backbone, frames: Frames, settings: EditSettings, timesteps: Sequence[int]
) -> dict[int, dict[str, Maps]]:
    """Return how much each place of each frame attends to the words by which the prompt differs from the source's, by
    timestep and layer.

    At some timesteps of an edit (those must be steps of its sampling), mean over heads, sum over tokens; of the branch
    of the edit's prompt. All frames pass through the model together, so hosts must keep them in order. Layers are named
    by their block, such as `down_blocks.0.attentions.1`.
    """
    tokens = backbone.tokens(settings.prompt)  # pyright: ignore[reportAttributeAccessIssue]
    before = settings.source_prompt.split()
    chosen = [
        places
        for word, places in zip(tokens.words, tokens.tokens_of_words, strict=True)
        if word not in before
    ] or tokens.tokens_of_words
    words = torch.tensor([place for places in chosen for place in places])
    looking = _Looking(words, tokens.length, frozenset(timesteps))
    unet = backbone.unet
    inner = unet.attn_processors
    wrapped = {name: _Seen(name, inner[name], looking) for name in layers.text_attentions(unet)}
    with hooks.processors_installed(unet, wrapped):
        edit_frames(backbone, frames, settings, looking.begin)
    return {
        timestep: {
            name.partition(".transformer_blocks")[0]: looking.sums[timestep, name]
            / looking.counts[timestep, name]
            for name in sorted(wrapped, key=lambda name: _WAY.index(name.partition("_")[0]))
        }
        for timestep in timesteps
    }


@torch.no_grad()
def feature_maps(
    backbone: Backbone, frames: Frames, settings: EditSettings, timesteps: Sequence[int]
) -> dict[int, list[Maps]]:
    """Return what the decoder's attentions to the prompt give for noisy frames, mean over channels; by timestep, then
    layer.

    The layers are those that plug-and-play counts as 4 to 11. All frames get the same noise, which follows from the
    seed, so that what differs is due to the frames.
    """
    latents = backbone.encode(frames)
    size = latents.shape[2], latents.shape[3]
    noise = torch.randn(latents[:1].shape, generator=random.generator(settings.seed)).to(latents)
    text = backbone.embed([settings.prompt]).expand(len(frames), -1, -1)
    names = [name.replace(".attn1.", ".attn2.") for name in layers.decoder_self_attentions(backbone.unet)]
    found: dict[int, list[Maps]] = {}
    with ExitStack() as stack:
        prefix: PrefixOf | None = None
        adapter = AdapterInUse.opened(settings.adapter, backbone, with_source=True)
        if adapter is not None:
            adapter.see(frames)
            prefix = stack.enter_context(adapter.attached(backbone))
        features: Mapping[str, Tensor] = stack.enter_context(features_collected(backbone.unet, names))
        for timestep in timesteps:
            alpha = backbone.schedule.alpha(timestep)
            tokens = None if prefix is None else prefix(range(len(frames)), timestep)
            embeds = text if tokens is None else torch.cat([tokens.to(text), text], dim=1)
            backbone.predict_noise(ddim.add_noise(latents, noise, alpha), timestep, embeds)
            found[timestep] = [_map(features[name], size) for name in names]
    return found


def _map(features: Float[Tensor, "frames tokens channels"], size: tuple[int, int]) -> Maps:
    """Mean over channels, as a map of a (height, width)."""
    return _enlarged(features.float().mean(-1).cpu(), size)


def _enlarged(values: Float[Tensor, "frames places"], size: tuple[int, int]) -> Maps:
    """Values of places, row by row, as maps of a (height, width)."""
    rows = round((values.shape[1] * size[0] / size[1]) ** 0.5)
    return functional.interpolate(values.unflatten(1, (rows, -1))[:, None], size, mode="nearest")[:, 0]


def normalised(maps: Maps) -> Maps:
    """Scale from 0, the smallest of all frames, to 1, the largest."""
    low, high = maps.min(), maps.max()
    return (maps - low) / (high - low).clamp_min(1e-12)


def change(maps: Maps) -> float:
    """Return the mean absolute difference of adjacent frames' normalised maps; 0 for one frame."""
    return float(normalised(maps).diff(dim=0).abs().mean()) if len(maps) > 1 else 0.0


def pictures(maps: Maps) -> Float[Tensor, "frames 3 rows columns"]:
    """Draw grey pictures, black to white over all frames."""
    return normalised(maps)[:, None].expand(-1, 3, -1, -1)
