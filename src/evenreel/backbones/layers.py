"""Rules that name layers on any diffusers UNet: SD 1.x and 2.x, SDXL, tiny ones."""

import re
from typing import Any

from torch import nn

_PROCESSOR = ".processor"
_TRANSFORMER = re.compile(r"^(up_blocks\.\d+\.attentions\.\d+)\.")


def self_attentions(unet: Any) -> tuple[str, ...]:
    """Return processor names of all self-attentions, in diffusers' order (down, up, middle)."""
    return tuple(name for name in unet.attn_processors if name.endswith(".attn1" + _PROCESSOR))


def decoder_self_attentions(unet: Any) -> tuple[str, ...]:
    """Return processor names of the decoder's self-attentions except those of its first transformer.

    On SD 1.x these are up_blocks 1:[1, 2], 2:[0, 1, 2], 3:[0, 1, 2]: the layers into which plug-and-play
    injects (arXiv:2211.12572, section 4: layers 4 to 11).
    """
    names = [name for name in self_attentions(unet) if _TRANSFORMER.match(name)]
    first = _transformer_of(names[0]) if names else ""
    return tuple(name for name in names if _transformer_of(name) != first)


def last_self_attentions(unet: Any, transformers: int = 2) -> tuple[str, ...]:
    """Return processor names of the self-attentions in the first transformers of the last decoder block with attention.

    On SD 1.x these are up_blocks.3.attentions.0 and 1.
    """
    names = [name for name in self_attentions(unet) if _TRANSFORMER.match(name)]
    block = names[-1].split(".attentions.")[0] + "." if names else ""
    within = [name for name in names if name.startswith(block)]
    wanted = list(dict.fromkeys(_transformer_of(name) for name in within))[:transformers]
    return tuple(name for name in within if _transformer_of(name) in wanted)


def text_attentions(unet: Any) -> tuple[str, ...]:
    """Return processor names of all attentions to the prompt."""
    return tuple(name for name in unet.attn_processors if name.endswith(".attn2" + _PROCESSOR))


def first_self_attention(unet: Any, block: str) -> str | None:
    """Return the processor name of the first self-attention in `block` ("down_blocks.0", "mid_block"), or None."""
    names = (name for name in self_attentions(unet) if name.startswith(block + "."))
    return next(names, None)


def resnet_norms(unet: Any) -> tuple[nn.Module, ...]:
    """Return the group norms of all resnets, and the last one; those of transformers are not among them."""
    return tuple(
        module
        for name, module in unet.named_modules()
        if isinstance(module, nn.GroupNorm) and ".attentions." not in name
    )


def injection_resnet(unet: Any) -> tuple[str, Any]:
    """Return name and module of the resnet whose features plug-and-play injects: up_blocks.1.resnets.1 on SD 1.x.

    The rule: the second resnet of the first decoder block with attention (arXiv:2211.12572, section 4: layer 4).
    """
    for index, block in enumerate(unet.up_blocks):
        if getattr(block, "attentions", None):
            resnet = min(1, len(block.resnets) - 1)
            return f"up_blocks.{index}.resnets.{resnet}", block.resnets[resnet]
    raise ValueError("this UNet has no attention in its decoder")


def attention(unet: Any, processor_name: str) -> nn.Module:
    """Return the attention module that a processor name belongs to."""
    return unet.get_submodule(processor_name.removesuffix(_PROCESSOR))


def _transformer_of(name: str) -> str:
    match = _TRANSFORMER.match(name)
    return match.group(1) if match else ""
