"""Adapters to try things on."""

import torch

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window

VISION_WIDTH, PATCHES = 12, 6
ORIGIN = Origin(base="b" * 64, base_name="tiny", vision="c" * 64, vision_name="tiny-clip", licence="CC0-1.0")


def random_adapter(backbone, seed=0, *, lora=True, tokens=True, **changes):
    """One that matters: its B is not zero, its tokens are as large as words. Parts are settings, true or false."""
    settings = AdapterSettings(
        **{
            "lora": LoraSettings(scope="all") if lora is True else lora or None,
            "tokens": PromptTokenSettings(shared=3) if tokens is True else tokens or None,
            "inference_window": Window(0.5),
            "scale": 1.0,
            **changes,
        }
    )
    generator = torch.Generator().manual_seed(seed)
    adapter = Adapter.of(backbone, settings, vision_width=VISION_WIDTH, generator=generator)
    with torch.no_grad():
        for path in adapter.lora.shapes if adapter.lora is not None else ():
            adapter.lora.factors(path)[1].normal_(0, 0.3, generator=generator)
        if adapter.tokens is not None:
            adapter.tokens.shared.normal_(0, 1, generator=generator)
    return adapter


def hidden_of(frames, seed=0):
    """What a vision tower might say of frames."""
    return torch.randn(frames, PATCHES, VISION_WIDTH, generator=torch.Generator().manual_seed(seed))
