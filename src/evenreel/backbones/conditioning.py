"""What a noise predictor is told besides latents and a timestep: the prompt, and with SD-XL its pooled text and sizes.

SD-XL (arXiv:2307.01952, sections 2.1 and 2.2) adds to the embedding of the timestep the pooled text of its second
encoder and the sizes of a picture. The pooled text travels behind the hidden states of its prompt, as one token more
that no attention sees: so whatever selects, repeats, stacks, mixes or prefixes prompts takes it along unasked. Only
this module takes it apart again.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.types import Latents, PromptEmbeds, PromptRows

SIZES = 6
"""Numbers of a picture's sizes: height and width of the original, top and left of the crop, height and width wanted."""


def is_pooled(net: Any) -> bool:
    """Return whether a UNet or ControlNet takes pooled text and sizes, as SD-XL's do."""
    config = getattr(net, "config", None)
    return getattr(config, "addition_embed_type", None) == "text_time"


def with_pooled(
    hidden_states: PromptEmbeds, pooled: Float[Tensor, "prompts pooled_features"]
) -> Float[Tensor, "prompts tokens+1 features"]:
    """Return hidden states with the pooled text behind them, filled up with zeros to their width."""
    room = hidden_states.shape[-1] - pooled.shape[-1]
    return torch.cat([hidden_states, functional.pad(pooled, (0, room))[:, None]], dim=1)


def attended_tokens(net: Any, prompt_embeds: PromptRows) -> int:
    """Return how many tokens of a prompt's embeddings the attentions of a network see."""
    return prompt_embeds.shape[1] - is_pooled(net)


def frame_size(latents: Latents, scale: int = 8) -> tuple[int, int]:
    """Return (height, width) in pixels of the frames that latents stand for.

    `scale` are the pixels for each of their places, along each side: 8 with every published autoencoder.
    """
    return latents.shape[-2] * scale, latents.shape[-1] * scale


def conditions(
    net: Any, prompt_embeds: PromptRows, frame_size: tuple[int, int], dtype: torch.dtype
) -> dict[str, Any]:
    """Return the arguments of a UNet or ControlNet that say what to show, a row for each of its latents.

    `frame_size` is (height, width) of the frames in pixels. They count as whole pictures of that size, not cropped, as
    in diffusers' pipeline.
    """
    rows = prompt_embeds.to(dtype)
    if not is_pooled(net):
        return {"encoder_hidden_states": rows}
    sizes = [*frame_size, 0, 0, *frame_size]
    width = net.config.projection_class_embeddings_input_dim - SIZES * net.config.addition_time_embed_dim
    added = {
        "text_embeds": rows[:, -1, :width],
        "time_ids": torch.tensor([sizes] * len(rows), dtype=torch.float32, device=rows.device),
    }
    return {"encoder_hidden_states": rows[:, :-1], "added_cond_kwargs": added}
