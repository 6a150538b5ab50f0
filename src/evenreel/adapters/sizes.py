"""How large adapters are, counted without weights, beside what the paper says (GE-Adapter, arXiv:2501.04606)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from evenreel.adapters.lora import Lora
from evenreel.adapters.prompt_tokens import PromptTokens
from evenreel.adapters.settings import LoraSettings, PromptTokenSettings

SD15_UNET: Mapping[str, Any] = MappingProxyType(
    {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    }
)
"""The layout of Stable Diffusion 1.5's UNet."""
CLIP_WIDTH = 768
"""Of the hidden states of CLIP ViT-B/32's vision tower."""


@dataclass(frozen=True)
class Size:
    """Something that is trained, as it is counted and as it is said to be."""

    part: str
    parameters: int
    claim: str
    """What the paper or its code says of it; empty where they say nothing."""

    @property
    def megabytes(self) -> float:
        """In float32, in units of 1,000,000 bytes."""
        return 4 * self.parameters / 1e6


def lora_parameters(unet_config: Mapping[str, Any], settings: LoraSettings) -> int:
    """Count the trained numbers of a LoRA in a UNet of this layout (a diffusers config); no weights are made."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(dict(unet_config))
        return Lora.of(unet, settings).parameter_count


def prompt_parameters(settings: PromptTokenSettings, width: int, vision_width: int = CLIP_WIDTH) -> int:
    """Count the trained numbers of prompt tokens for prompts of `width` features; no weights are made."""
    with torch.device("meta"):
        return PromptTokens(settings, width, vision_width).parameter_count


def sd15_sizes() -> tuple[Size, ...]:
    """Return what the paper's adapter takes on Stable Diffusion 1.5, beside its claims."""

    def lora(scope: str) -> int:
        return lora_parameters(SD15_UNET, LoraSettings(scope=scope))

    def prompt(shared: int) -> int:
        return prompt_parameters(PromptTokenSettings(shared=shared), SD15_UNET["cross_attention_dim"])

    unclear = "15.4M for the prompt part"
    return (
        Size("LoRA, attention on the way down (what the paper says it trains)", lora("down"), "0.755M"),
        Size("LoRA, every attention (what its code trains)", lora("all"), "0.755M"),
        Size("prompt tokens, 4 shared (the code)", prompt(4), f'PrefixToken "2.3M"; {unclear}'),
        Size("prompt tokens, 8 shared (our default)", prompt(8), unclear),
        Size("prompt tokens, 18 shared (the paper's best)", prompt(18), unclear),
    )
