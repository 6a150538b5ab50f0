import pytest
import torch

from evenreel.backbones.hooks import forward_hooked, processors_installed
from evenreel.backbones.layers import attention, decoder_self_attentions, injection_resnet, self_attentions
from tiny import SD1, tiny_unet


class Zero:
    def __call__(self, attn, hidden_states, *args, **kwargs):
        return torch.zeros_like(hidden_states)


@torch.no_grad()
def answer(unet):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    return unet(latents, 401, encoder_hidden_states=torch.randn(2, 5, 32, generator=generator)).sample


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


def test_processors_work_inside_and_leave_no_trace(unet):
    before, names = answer(unet), self_attentions(unet)
    replace = {name: Zero() for name in names}
    with processors_installed(unet, replace):
        assert not torch.equal(answer(unet), before)
        assert isinstance(attention(unet, names[0]).processor, Zero)
    assert len(replace) == len(names)  # diffusers empties the mapping it is given
    assert torch.equal(answer(unet), before)


def test_hooks_work_inside_and_leave_no_trace(unet):
    before = answer(unet)
    with forward_hooked(unet.conv_in, lambda output: output * 2):
        assert not torch.equal(answer(unet), before)
    assert torch.equal(answer(unet), before)


def test_exceptions_leave_no_trace(unet):
    before = answer(unet)
    with (
        pytest.raises(ZeroDivisionError),
        processors_installed(unet, {self_attentions(unet)[0]: Zero()}),
        forward_hooked(unet.conv_in, lambda output: output * 2),
    ):
        raise ZeroDivisionError
    assert torch.equal(answer(unet), before)


def test_installations_nest(unet):
    first, second, *_ = self_attentions(unet)
    with processors_installed(unet, {first: Zero()}):
        inside = answer(unet)
        with processors_installed(unet, {second: Zero()}):
            assert not torch.equal(answer(unet), inside)
        assert torch.equal(answer(unet), inside)


def test_unknown_layers_are_an_error(unet):
    before = answer(unet)
    with (
        pytest.raises(KeyError, match="no such attention layers"),
        processors_installed(unet, {"attn9": Zero()}),
    ):
        pass
    assert torch.equal(answer(unet), before)


def blocks(names):
    return sorted({".".join(name.split(".")[:4]) for name in names})


def test_layers_of_sd_1():
    unet = tiny_unet(**SD1)
    assert blocks(decoder_self_attentions(unet)) == [
        *(f"up_blocks.1.attentions.{i}" for i in (1, 2)),
        *(f"up_blocks.{block}.attentions.{i}" for block in (2, 3) for i in (0, 1, 2)),
    ]
    name, resnet = injection_resnet(unet)
    assert name == "up_blocks.1.resnets.1"
    assert resnet is unet.up_blocks[1].resnets[1]
    assert len(self_attentions(unet)) == 16


def test_layers_of_sdxl():
    unet = tiny_unet(
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
    )
    names = decoder_self_attentions(unet)
    assert blocks(names) == [
        *(f"up_blocks.0.attentions.{i}" for i in (1, 2)),
        *(f"up_blocks.1.attentions.{i}" for i in (0, 1, 2)),
    ]
    assert len(names) == 2 * 3 + 3 * 2
    assert injection_resnet(unet)[0] == "up_blocks.0.resnets.1"


def test_layers_of_a_small_unet():
    unet = tiny_unet(levels=2, layers_per_block=1)
    assert blocks(decoder_self_attentions(unet)) == ["up_blocks.1.attentions.1"]
    assert injection_resnet(unet)[0] == "up_blocks.1.resnets.1"


def test_a_unet_without_attention_has_nothing_to_inject():
    unet = tiny_unet(levels=1, up_block_types=("UpBlock2D",), down_block_types=("DownBlock2D",))
    assert decoder_self_attentions(unet) == ()
    with pytest.raises(ValueError, match="no attention in its decoder"):
        injection_resnet(unet)
