"""Prompt tokens against recorded tensors (golden/ge/README.md, part c)."""

import re
from pathlib import Path

import pytest
import torch

from closeness import assert_close, difference
from evenreel.adapters.prompt_tokens import PromptTokens, selected
from evenreel.adapters.settings import PromptTokenSettings
from evenreel.backbones.weights import load_part
from hosts import golden

TOKENS, VISION = 5e-6, 1e-5

tokens = pytest.mark.parametrize("recording", golden.cases("ge", "share"))
SELECTS = {"code": "stride", "eq13": "average"}


@tokens
@pytest.mark.parametrize("form", SELECTS)
def test_prompt_tokens(recording, form):
    shares = sorted(
        {int(m.group(1)) for name in recording.names if (m := re.match(r"share(\d+)_token", name))}
    )
    assert shares
    for shared in shares:
        weight = recording[f"share{shared}_proj.weight"]
        settings = PromptTokenSettings(shared=shared, select=SELECTS[form])
        module = PromptTokens(settings, weight.shape[0], weight.shape[1])
        module.load(
            {
                "shared": recording[f"share{shared}_token"],
                "projection.weight": weight,
                "projection.bias": recording[f"share{shared}_proj.bias"],
            }
        )
        for end, hidden in (("", "vision_hidden"), ("_random_hidden", "random_hidden")):
            out = f"share{shared}_{form}_out{end}"
            if out not in recording or hidden not in recording:
                continue
            with torch.no_grad():
                assert difference(module(recording[hidden]), recording[out]) <= TOKENS, out
            chosen = f"share{shared}_{form}_hsub{end}"
            if chosen in recording:
                ours = selected(recording[hidden], SELECTS[form])
                assert difference(ours, recording[chosen]) <= TOKENS, chosen


@tokens
def test_gradients_are_those_of_the_equations(recording):
    """Eq. 13 to 15 written out: the shared tokens' gradient, and the projection's through the means."""
    hidden = recording["random_hidden"].double()
    module = PromptTokens(PromptTokenSettings(shared=4), hidden.shape[2], hidden.shape[2]).double()
    weights = torch.randn(
        module(hidden).shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    (module(hidden) * weights).sum().backward()
    means = (hidden[:, 0::2] + hidden[:, 1::2]) / 2
    assert_close(module.shared.grad, weights[:, :4].sum(0))
    assert_close(module.projection.bias.grad, weights[:, 4:].sum((0, 1)))
    expected = torch.einsum("fnd,fnv->dv", weights[:, 4:], means)
    assert_close(module.projection.weight.grad, expected)


@tokens
def test_the_vision_tower(recording):
    from transformers import CLIPVisionModel

    from evenreel.backbones.clip import ClipFolder

    folder = ClipFolder(Path(golden.model("tiny-clip")))
    folder.check()
    tower = load_part(folder, "", CLIPVisionModel, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        hidden = tower(pixel_values=recording["pixel_values_frame0"]).last_hidden_state
    assert difference(hidden, recording["vision_hidden"][:1]) <= VISION
