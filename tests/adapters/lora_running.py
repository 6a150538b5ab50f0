"""Models with LoRAs of other tools at work."""

import torch

from evenreel.adapters.foreign_lora import loras_attached, read_lora

PROMPTS = ["a red ball"]


@torch.no_grad()
def predicted(model):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = model.embed(PROMPTS)
    return embeds, model.predict_noise(latents, 401, embeds)


def with_loras(model, *loras):
    """Hidden states and noise with (path, weight) at work."""
    with loras_attached(model, [(read_lora(path, model), weight) for path, weight in loras]):
        return predicted(model)


def assert_same(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) <= tolerance


def changes(model, *loras):
    return float((with_loras(model, *loras)[1] - predicted(model)[1]).abs().max())
