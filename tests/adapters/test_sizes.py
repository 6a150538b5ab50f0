import pytest
import torch

from evenreel.adapters.lora import Lora
from evenreel.adapters.prompt_tokens import PromptTokens
from evenreel.adapters.settings import LoraSettings, PromptTokenSettings
from evenreel.adapters.sizes import SD15_UNET, lora_parameters, prompt_parameters, sd15_sizes
from tiny import tiny_unet


@pytest.mark.parametrize(("scope", "expected"), [("all", 797_184), ("down", 287_744)])
def test_lora_on_sd_15(scope, expected):
    """Counted in golden/ge/README.md, part f."""
    assert lora_parameters(SD15_UNET, LoraSettings(scope=scope)) == expected


def test_sd_15_is_as_large_as_it_is():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(SD15_UNET))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964


@pytest.mark.parametrize("scope", ["down", "all", ("mid_block.*",)])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_counts_are_those_of_what_is_made(scope, rank):
    unet = tiny_unet()
    settings = LoraSettings(scope=scope, rank=rank)
    made = Lora.of(unet, settings)
    assert lora_parameters(unet.config, settings) == made.parameter_count
    assert made.parameter_count == sum(tensor.numel() for tensor in made.tensors().values())


@pytest.mark.parametrize("shared", [0, 4, 18])
def test_prompt_tokens(shared):
    settings = PromptTokenSettings(shared=shared)
    assert prompt_parameters(settings, 768) == shared * 768 + 768 * 768 + 768
    assert prompt_parameters(settings, 32, 48) == PromptTokens(settings, 32, 48).parameter_count


def test_the_papers_claims_beside_what_is_counted():
    sizes = {size.part: size for size in sd15_sizes()}
    code = next(size for part, size in sizes.items() if "4 shared" in part)
    assert code.parameters == 593_664
    assert code.megabytes == pytest.approx(2.37, abs=0.005)
    assert all(size.claim for size in sizes.values())
    # No count is the claimed 0.755M, and none comes near 15.4M.
    assert {size.parameters for size in sizes.values()} == {287_744, 797_184, 593_664, 596_736, 604_416}
