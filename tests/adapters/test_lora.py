"""Laws of LoRA: it changes a model while attached and leaves no trace."""

import pytest
import torch
from peft import LoraConfig

from closeness import assert_apart, assert_close
from evenreel.adapters.lora import Lora, lora_attached, targets
from evenreel.adapters.settings import LoraSettings
from evenreel.errors import SettingsError, WeightsError
from tiny import SD1, tiny_unet


def answer(unet, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator).to(dtype)
    embeds = torch.randn(2, 5, 32, generator=generator).to(dtype)
    with torch.no_grad():
        return unet(latents, 401, encoder_hidden_states=embeds).sample


def random_lora(unet, seed=0, **settings):
    lora = Lora.of(unet, LoraSettings(**settings), torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    for path in lora.shapes:
        with torch.no_grad():
            lora.factors(path)[1].normal_(0, 0.3, generator=generator)
    return lora


def state_of(unet):
    """What a model is made of, to the last module and flag."""
    modules = {name: (id(module), module.training) for name, module in unet.named_modules()}
    parameters = {name: (id(p), p.requires_grad, p.detach().clone()) for name, p in unet.named_parameters()}
    return modules, parameters


def assert_same_state(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, (identity, need, value) in one[1].items():
        assert other[1][name][:2] == (identity, need)
        assert torch.equal(other[1][name][2], value)


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"trainable": True}])
def test_attached_it_changes_the_model_and_detached_nothing_is_left(unet, options):
    before, state = answer(unet), state_of(unet)
    lora = random_lora(unet)
    torch.manual_seed(0)
    with lora_attached(unet, lora, **options) as switch:
        inside = answer(unet)
        assert (inside - before).abs().max() > 1e-2
        switch.turn(on=False)
        assert torch.equal(answer(unet), before)
        switch.turn(on=True)
        assert torch.equal(answer(unet), inside)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))  # the global generator was left alone
    assert torch.equal(answer(unet), before)
    assert_same_state(state, state_of(unet))


@pytest.mark.parametrize("fused", [False, True])
def test_an_exception_leaves_nothing_behind(unet, fused):
    state = state_of(unet)
    with pytest.raises(ZeroDivisionError), lora_attached(unet, random_lora(unet), fused=fused):
        raise ZeroDivisionError
    assert_same_state(state, state_of(unet))


@pytest.mark.parametrize("scope", ["down", "all", ("up_blocks.1.*", "mid_block.*.attn2.*")])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_fused_and_unfused_agree(unet, scope, scale):
    lora = random_lora(unet, scope=scope, alpha=6.0)
    with lora_attached(unet, lora, scale=scale):
        unfused = answer(unet)
    with lora_attached(unet, lora, scale=scale, fused=True):
        fused = answer(unet)
    assert_close(fused, unfused)
    assert_apart(fused, answer(unet))


def test_scale_is_by_how_much_weights_change(unet):
    lora = random_lora(unet)
    path = next(iter(lora.shapes))
    first, second = lora.factors(path)
    with lora_attached(unet, lora, scale=0.5):
        layer, tokens = unet.get_submodule(path), torch.randn(3, first.shape[1])
        with torch.no_grad():
            expected = layer.base_layer(tokens) + 0.5 * tokens @ first.T @ second.T
            assert_close(layer(tokens), expected)


def test_a_new_lora_changes_nothing_yet(unet):
    before = answer(unet)
    with lora_attached(unet, Lora.of(unet, LoraSettings(scope="all"))):
        assert torch.equal(answer(unet), before)


def test_factors_follow_from_the_generator(unet):
    one, same, other = (
        Lora.of(unet, LoraSettings(), torch.Generator().manual_seed(seed)).tensors() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_gradients_reach_the_lora_and_nothing_else():
    unet = tiny_unet().requires_grad_(False)
    lora = random_lora(unet)
    with lora_attached(unet, lora, trainable=True):
        latents, embeds = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32)
        unet(latents, 401, encoder_hidden_states=embeds).sample.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in lora.parameters())
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_it_works_inside_somebody_elses_lora(unet):
    plain, lora = answer(unet), random_lora(unet, scope="all")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights="gaussian"))
    try:
        for name, weight in unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(weight, 0.05)
        theirs, state, both = answer(unet), state_of(unet), []
        for fused in (False, True):
            with lora_attached(unet, lora, fused=fused) as switch:
                both.append(answer(unet))
                switch.turn(on=False)
                assert torch.equal(answer(unet), theirs)
            assert_same_state(state, state_of(unet))
    finally:
        unet.delete_adapters("default")
        unet.unload_lora()
    assert_close(*both)
    with lora_attached(unet, lora):
        for one, other in ((both[0], theirs), (both[0], answer(unet)), (answer(unet), plain)):
            assert_apart(one, other)


@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_models(fused):
    unet = tiny_unet().to(torch.bfloat16)
    before, lora = answer(unet, torch.bfloat16), random_lora(unet)
    with lora_attached(unet, lora, fused=fused):
        inside = answer(unet, torch.bfloat16)
        assert inside.dtype is torch.bfloat16
        assert (inside - before).abs().max() > 1e-2
    assert torch.equal(answer(unet, torch.bfloat16), before)


def test_scopes():
    unet = tiny_unet(**SD1)
    every, down = targets(unet, "all"), targets(unet, "down")
    # 3 down and 3 up blocks with 2 and 3 transformers each, and 1 in the middle; 2 attentions each, 4 layers each
    assert len(every) == (3 * 2 + 3 * 3 + 1) * 2 * 4
    assert len(down) == 3 * 2 * 2 * 4
    assert all(path.startswith("down_blocks.") for path in down)
    assert set(targets(unet, ("up_blocks.*.attn2.to_k", "mid_block.*"))) == {
        path
        for path in every
        if path.startswith("mid_block") or (path.startswith("up_blocks") and path.endswith("attn2.to_k"))
    }
    with pytest.raises(
        SettingsError, match=r"'up_blocks.9.\*' matches no attention layer of this model, for"
    ):
        targets(unet, ("up_blocks.1.*", "up_blocks.9.*"))


def test_another_models_lora_is_refused(unet):
    lora = random_lora(unet)
    wide = tiny_unet(cross_attention_dim=48)
    small = tiny_unet(levels=2)
    for other, words in (
        (wide, r"of size \(32, 32\), but this model's is \(32, 48\)"),
        (small, "does not have"),
    ):
        state = state_of(other)
        with pytest.raises(WeightsError, match=words), lora_attached(other, lora):
            pass
        assert_same_state(state, state_of(other))


def test_layers_that_cannot_be_changed_are_refused():
    unet = tiny_unet()
    lora = random_lora(unet)
    with (
        pytest.raises(SettingsError, match="cannot be fused"),
        lora_attached(unet, lora, fused=True, trainable=True),
    ):
        pass
    unet.fuse_qkv_projections()
    with pytest.raises(SettingsError, match="unfuse"), lora_attached(unet, lora):
        pass


def test_tensors_go_there_and_back(unet):
    one, other = random_lora(unet, seed=1), random_lora(unet, seed=2)
    other.load(one.tensors())
    assert all(torch.equal(tensor, one.tensors()[name]) for name, tensor in other.tensors().items())
    tensors = one.tensors()
    name = next(iter(tensors))
    for damaged, words in (
        ({**tensors, "extra": tensors[name]}, "other layers .extra"),
        ({key: value for key, value in tensors.items() if key != name}, "other layers"),
        ({**tensors, name: tensors[name][:2]}, "must be of size"),
    ):
        with pytest.raises(WeightsError, match=words):
            other.load(damaged)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rank", 0), ("alpha", 0.0), ("scope", "up"), ("scope", ()), ("alpha", float("nan"))],
)
def test_settings_check_themselves(setting, value):
    with pytest.raises(SettingsError, match=f"{setting} must"):
        LoraSettings(**{setting: value})
