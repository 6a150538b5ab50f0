"""LoRAs of other tools: weights beside the equations, the model as it was, and files that are refused."""

import pytest
import torch
from safetensors.torch import load_file

from adapters.lora_running import PROMPTS, predicted, with_loras
from adapters.lora_writing import (
    ALPHA,
    ATTENTIONS,
    RANK,
    factors_of,
    kohya,
    layers_of,
    peft_alone,
    save,
)
from adapters.making import random_adapter
from closeness import assert_close
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.errors import WeightsError


def test_every_weight_is_that_of_the_equation(model, tmp_path, unet_factors):
    path = kohya(tmp_path / "a.safetensors", unet_factors)
    lora = read_lora(path, model)
    assert (len(lora.unet), len(lora.text)) == (len(unet_factors), 0)
    assert lora.changed == f"{len(unet_factors)} layers of the UNet"
    before = {layer: model.unet.get_submodule(layer).weight.clone() for layer in unet_factors}
    with loras_attached(model, [(lora, 0.7)]):
        for layer, (down, up) in unet_factors.items():
            exact = before[layer].double() + 0.7 * ALPHA / RANK * (up.double() @ down.double())
            assert (
                model.unet.get_submodule(layer).weight - exact
            ).abs().max() <= 1e-7 * exact.abs().max() + 1e-7


def test_the_model_comes_back_bit_for_bit_also_after_an_error(model, tmp_path, unet_factors, text_factors):
    path = kohya(tmp_path / "a.safetensors", unet_factors, text_factors)
    lora, before = read_lora(path, model), predicted(model)
    with pytest.raises(ZeroDivisionError), loras_attached(model, [(lora, 1.0)]):
        1 / 0  # noqa: B018
    assert all(torch.equal(a, b) for a, b in zip(predicted(model), before, strict=True))
    assert not any("lora" in name for name, _ in model.unet.named_parameters())


def test_nothing_changes_by_a_weight_of_nothing(model, tmp_path, unet_factors):
    path = kohya(tmp_path / "a.safetensors", unet_factors)
    assert all(
        torch.equal(a, b) for a, b in zip(with_loras(model, (path, 0.0)), predicted(model), strict=True)
    )


def test_beside_an_adapter_both_are_at_work(model, tmp_path, unet_factors):
    """An adapter's LoRA stands on whatever weights there are: differences add up."""
    path = kohya(tmp_path / "a.safetensors", unet_factors)
    adapter = random_adapter(model, tokens=False)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = model.embed(PROMPTS)
    layer = next(iter(unet_factors))

    def change():
        return model.unet.get_submodule(layer)(torch.eye(model.unet.get_submodule(layer).in_features))

    with torch.no_grad():
        plain = change()
        with loras_attached(model, [(read_lora(path, model), 1.0)]):
            one = change()
            with adapter.attach(model):
                model.predict_noise(latents, 951, embeds)
                both = change()
        with adapter.attach(model):
            model.predict_noise(latents, 951, embeds)
            other = change()
    assert (one - plain).abs().max() > 1e-2
    assert (other - plain).abs().max() > 1e-2
    assert_close(both - plain, (one - plain) + (other - plain))


def test_a_lora_of_rank_0_is_refused(model, tmp_path):
    layer = layers_of(model.unet, ATTENTIONS)
    factors = {name: (down[:0], up[:, :0]) for name, (down, up) in factors_of(layer).items()}
    path = kohya(tmp_path / "empty.safetensors", factors)
    with pytest.raises(WeightsError, match="without any number, which change nothing; fetch the LoRA again"):
        read_lora(str(path), model)


def refused(model, path, said):
    with pytest.raises(WeightsError, match=said) as caught:
        with_loras(model, (path, 1.0))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def altered(path, change):
    return save(change(load_file(path)), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: {**t, "lora_unet_somewhere_else.lora_down.weight": torch.zeros(4, 4)},
            "1 of its .* change nothing",
        ),
        (lambda t: {**t, "optimizer.step": torch.zeros(1)}, "optimizer.step"),
        (
            lambda t: {n: v for n, v in t.items() if not n.endswith("up.weight")},
            "which do not make a change of a layer",
        ),
        (
            lambda t: {n: v[:, :-1] if "_down.w" in n else v for n, v in t.items()},
            "changes a weight of shape|features",
        ),
        (
            lambda t: {n: v[:2] if "_down.w" in n else v for n, v in t.items()},
            "factors whose ranks disagree .*fetch the LoRA again",
        ),
        (
            lambda t: {**t, "bundle_emb.a.string_to_param.*": torch.zeros(2, 64)},
            "an embedding inside .* as embed",
        ),
        (
            lambda t: {n: v if v.ndim else torch.stack([v, v]) for n, v in t.items()},
            "alpha of 2 numbers, not one",
        ),
        (lambda t: {n: v * float("nan") for n, v in t.items()}, "NaN or infinite"),
        (lambda t: {n: v.to(torch.int8) for n, v in t.items()}, "numbers of type I8"),
        (lambda t: {n.replace("lora_down.weight", "oft_blocks"): v for n, v in t.items()}, "rotates weights"),
        (
            lambda t: {**t, "lora_te2_text_model_x.lora_down.weight": torch.zeros(4, 4)},
            "LoRA for Stable Diffusion XL",
        ),
        (
            lambda t: {**t, "lora_unet_double_blocks_0_x.lora_down.weight": torch.zeros(4, 4)},
            "a LoRA for Flux",
        ),
        (lambda t: {"emb_params": torch.zeros(2, 32)}, "is an embedding, not a LoRA; give it as embedding"),
    ],
)
def test_what_is_not_understood_is_refused(model, tmp_path, unet_factors, change, said):
    path = altered(kohya(tmp_path / "a.safetensors", unet_factors), change)
    refused(model, path, said)


def test_one_for_another_family_is_named(model, tmp_path, unet_factors):
    factors = {
        layer: (torch.zeros(RANK, 1024), up) if "attn2.to_k" in layer else (down, up)
        for layer, (down, up) in unet_factors.items()
    }
    path = kohya(tmp_path / "a.safetensors", factors)
    refused(model, path, "a LoRA for Stable Diffusion 2.x, of models whose prompts have 1024 features")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "LOHA"}, "is a LOHA of peft's"),
        ({"lora_bias": True}, "has biases of its factors"),
        ({"lora_alpha": "many"}, "its lora_alpha is many"),
        ({"lora_alpha": 10**400}, "its lora_alpha is 1000"),
    ],
)
def test_configurations_of_peft_that_mean_something_else(model, tmp_path, unet_factors, changes, said):
    refused(model, peft_alone(tmp_path / "peft", unet_factors, **changes), said)


def test_absent_files(model, tmp_path):
    refused(model, tmp_path / "a.safetensors", "there is no such LoRA file")
    refused(model, tmp_path, "holds no pytorch_lora_weights.safetensors")
