"""LoRAs of other tools change the model as their tools do: noise beside diffusers, weights beside the equations."""

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adapters.lora_writing import (
    ALPHA,
    ATTENTIONS,
    RANK,
    TEXT,
    diffusers_2023,
    diffusers_later,
    factors_of,
    kohya,
    layers_of,
    peft_alone,
    peft_style,
    save,
)
from adapters.making import random_adapter
from closeness import assert_close
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.adapters.lora_names import layer_table
from evenreel.backbones import load_backbone
from evenreel.errors import WeightsError
from hosts import golden
from one_file import unet_name
from tiny import SD1, save_tiny

PROMPTS = ["a red ball"]


@pytest.fixture(scope="module")
def model(tiny_folder):
    """A model of this file's own, since it is changed and put back."""
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def unet_factors(model):
    return factors_of(layers_of(model.unet, ATTENTIONS))


@pytest.fixture(scope="module")
def text_factors(model):
    return factors_of(layers_of(model.text.text_encoder, TEXT), seed=1)


@torch.no_grad()
def predicted(model):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = model.embed(PROMPTS)
    return embeds, model.predict_noise(latents, 401, embeds)


def with_loras(model, *loras):
    """Hidden states and noise with (path, weight) at work."""
    with loras_attached(model, [(read_lora(path, model), weight) for path, weight in loras]):
        return predicted(model)


def skip_where_diffusers_cannot(paths):
    """Before 0.41, diffusers finds no layer for LoRAs of text encoders in the CLIP of today's transformers."""
    if Version(diffusers.__version__) >= Version("0.41"):
        return
    for path in paths:
        with safe_open(path, "pt") as file:
            if any(name.startswith(("lora_te", "text_encoder")) for name in file.keys()):  # noqa: SIM118
                pytest.skip(f"diffusers {diffusers.__version__} itself cannot read LoRAs of text encoders")


@torch.no_grad()
def by_diffusers(folder, *loras):
    """The same from diffusers' pipeline."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    skip_where_diffusers_cannot(path for path, _ in loras)
    names = []
    for number, (path, _) in enumerate(loras):
        names.append(f"lora{number}")
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=names[-1])
    pipeline.set_adapters(names, [weight for _, weight in loras])
    embeds, _ = pipeline.encode_prompt(PROMPTS[0], "cpu", 1, do_classifier_free_guidance=False)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = pipeline.unet(latents, 401, encoder_hidden_states=embeds.expand(2, -1, -1)).sample
    return embeds, noise


def assert_same(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) <= tolerance


def changes(model, *loras):
    return float((with_loras(model, *loras)[1] - predicted(model)[1]).abs().max())


@pytest.mark.parametrize("write", [kohya, peft_style, diffusers_later])
def test_files_are_what_diffusers_makes_of_them(
    tiny_folder, model, tmp_path, write, unet_factors, text_factors
):
    path = write(tmp_path / "a.safetensors", unet_factors, text_factors)
    ours = with_loras(model, (path, 0.7))
    assert_same(ours, by_diffusers(tiny_folder, (path, 0.7)))
    before = predicted(model)
    assert all(float((a - b).abs().max()) > 1e-2 for a, b in zip(ours, before, strict=True))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_two_at_once_are_what_diffusers_makes_of_them(
    tiny_folder, model, tmp_path, unet_factors, text_factors
):
    one = kohya(tmp_path / "one.safetensors", unet_factors, text_factors)
    other = factors_of(layers_of(model.unet, (*ATTENTIONS, ".ff.net.2")), seed=5)
    two = peft_style(tmp_path / "two.safetensors", other)
    both = ((one, 0.7), (two, 0.3))
    assert_same(with_loras(model, *both), by_diffusers(tiny_folder, *both))


def test_convolutions_are_what_diffusers_makes_of_them(tiny_folder, model, tmp_path):
    """LoCon: resnets, samplers, embeddings of time, projections."""
    ends = (
        ".conv1",
        ".conv2",
        ".conv_shortcut",
        ".time_emb_proj",
        ".proj_in",
        ".proj_out",
        ".0.conv",
        *ATTENTIONS,
    )
    path = kohya(tmp_path / "a.safetensors", factors_of(layers_of(model.unet, ends), std=0.1))
    assert_same(with_loras(model, (path, 0.8)), by_diffusers(tiny_folder, (path, 0.8)))


def test_all_formats_mean_the_same(model, tmp_path, unet_factors):
    wanted = with_loras(model, (kohya(tmp_path / "k.safetensors", unet_factors, alpha=RANK), 0.5))
    forms = [
        peft_style(tmp_path / "p.safetensors", unet_factors, alpha=RANK),
        peft_alone(tmp_path / "peft", unet_factors, alpha=RANK),
        diffusers_2023(tmp_path / "d.safetensors", unet_factors),
        diffusers_later(tmp_path / "l.safetensors", unet_factors),
    ]
    for form in forms:
        assert_same(with_loras(model, (form, 0.5)), wanted, 1e-6)
    assert changes(model, (forms[2], 0.5)) > 1e-2  # names of 2023 load in silence elsewhere


def test_names_of_2023_of_the_text_encoder(model, tmp_path, text_factors):
    wanted = with_loras(model, (kohya(tmp_path / "k.safetensors", text=text_factors, alpha=RANK), 1.0))
    older = diffusers_2023(tmp_path / "d.safetensors", text=text_factors)
    assert_same(with_loras(model, (older, 1.0)), wanted, 1e-6)


def test_numbered_text_encoders_and_positions_are_of_the_one_text_encoder(
    model, tmp_path, unet_factors, text_factors
):
    path = kohya(tmp_path / "k.safetensors", unet_factors, text_factors)
    wanted = with_loras(model, (path, 1.0))
    tensors = {name.replace("lora_te_", "lora_te1_"): value for name, value in load_file(path).items()}
    tensors["lora_te1_text_model_embeddings.position_ids"] = torch.arange(77)[None]
    assert any(name.startswith("lora_te1_") for name in tensors)
    save_file(tensors, tmp_path / "later.safetensors")
    assert_same(with_loras(model, (tmp_path / "later.safetensors", 1.0)), wanted, 1e-6)


@pytest.mark.parametrize("prefix", ["lora_unet_", "diffusion_model."])
def test_names_of_the_original_code(tmp_path, prefix):
    model = load_backbone(str(save_tiny(tmp_path / "model", unet_changes=SD1)), device="cpu")
    ends = (
        *ATTENTIONS,
        ".conv1",
        ".conv_shortcut",
        ".time_emb_proj",
        ".0.conv",
        "conv_in",
        "linear_1",
        "proj_in",
    )
    factors = factors_of(layers_of(model.unet, ends), std=0.1)
    plain = kohya(tmp_path / "plain.safetensors", factors)
    tensors = {}
    for layer, (down, up) in factors.items():
        name = unet_name(f"{layer}.weight").removesuffix(".weight")
        name = prefix + (name.replace(".", "_") if prefix == "lora_unet_" else name)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    path = save(tensors, tmp_path / "original.safetensors")
    assert_same(with_loras(model, (path, 1.0)), with_loras(model, (plain, 1.0)), 1e-6)


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"alpha_pattern": {"to_q": 8.0}}])
def test_pefts_scalings(tiny_folder, model, tmp_path, unet_factors, settings):
    import json

    from safetensors import safe_open

    path = peft_style(tmp_path / "a.safetensors", unet_factors)
    with safe_open(path, "pt") as file:
        packed = json.loads(file.metadata()["lora_adapter_metadata"])
    packed |= {f"unet.{key}": value for key, value in settings.items()}
    save(load_file(path), path, {"lora_adapter_metadata": json.dumps(packed)})
    assert_same(with_loras(model, (path, 1.0)), by_diffusers(tiny_folder, (path, 1.0)))


def test_dora_is_what_peft_makes_of_it(model, tmp_path, unet_factors):
    """Magnitudes of rows, in peft's and in LyCORIS' form."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    generator = torch.Generator().manual_seed(2)
    layers = layers_of(model.unet, ATTENTIONS)
    magnitudes = {
        path: 1 + torch.rand(len(layer.weight), generator=generator) for path, layer in layers.items()
    }
    copy = UNet2DConditionModel.from_config(model.unet.config)
    copy.load_state_dict(model.unet.state_dict())
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, use_dora=True, target_modules=["to_q", "to_k", "to_v", "to_out.0"]
    )
    inject_adapter_in_model(config, copy)
    state = copy.state_dict()
    for path, (down, up) in unet_factors.items():
        state[f"{path}.lora_A.default.weight"], state[f"{path}.lora_B.default.weight"] = down, up
        state[f"{path}.lora_magnitude_vector.default.weight"] = magnitudes[path]
    copy.load_state_dict(state)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = model.embed(PROMPTS)
    with torch.no_grad():
        wanted = copy.eval()(latents, 401, encoder_hidden_states=embeds.expand(2, -1, -1)).sample
    kohyas = load_file(kohya(tmp_path / "k.safetensors", unet_factors))
    for path in layers:
        kohyas[f"lora_unet_{path.replace('.', '_')}.dora_scale"] = magnitudes[path][:, None]
    pefts = load_file(peft_style(tmp_path / "p.safetensors", unet_factors))
    pefts |= {f"unet.{path}.lora_magnitude_vector": magnitudes[path] for path in layers}
    settings = {"lora_adapter_metadata": '{"unet.lora_alpha": 2.0, "unet.r": 4, "unet.use_dora": true}'}
    for path in (
        save(kohyas, tmp_path / "dora.safetensors"),
        save(pefts, tmp_path / "dora2.safetensors", settings),
    ):
        assert_same(with_loras(model, (path, 1.0))[1:], [wanted])


def test_a_lora_of_rank_0_is_refused(model, tmp_path):
    layer = layers_of(model.unet, ATTENTIONS)
    factors = {name: (down[:0], up[:, :0]) for name, (down, up) in factors_of(layer).items()}
    path = kohya(tmp_path / "empty.safetensors", factors)
    with pytest.raises(WeightsError, match="without any number, which change nothing; fetch the LoRA again"):
        read_lora(str(path), model)


def lycoris(model, path, tensors_of):
    """A file in which one layer of each kind is changed, and what it adds to weights by path."""
    layers = {**layers_of(model.unet, (".attn1.to_q",)), **layers_of(model.unet, (".conv1",))}
    tensors, wanted = {}, {}
    generator = torch.Generator().manual_seed(0)
    for layer, module in layers.items():
        own, wanted[layer] = tensors_of(
            module.weight.shape, lambda *s: 0.2 * torch.randn(*s, generator=generator)
        )
        tensors |= {f"lora_unet_{layer.replace('.', '_')}.{name}": tensor for name, tensor in own.items()}
    return save(tensors, path), wanted


def loha(shape, draw):
    outputs, inputs, *kernel = shape
    area = kernel[0] * kernel[1] if kernel else 1
    a, b, c, d = draw(outputs, 4), draw(4, inputs * area), draw(outputs, 4), draw(4, inputs * area)
    delta = (2.0 / 4) * ((a @ b) * (c @ d)).reshape(shape)
    names = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(2.0)}
    return names, delta


def loha_with_core(shape, draw):
    outputs, inputs, *kernel = shape
    if not kernel:
        return loha(shape, draw)
    parts = [(draw(4, 4, *kernel), draw(4, outputs), draw(4, inputs)) for _ in range(2)]
    halves = [torch.einsum("ijkl,jr,ip->prkl", core, inner, outer) for core, outer, inner in parts]
    names = {}
    for number, (core, outer, inner) in enumerate(parts, start=1):
        names |= {f"hada_t{number}": core, f"hada_w{number}_a": outer, f"hada_w{number}_b": inner}
    return {**names, "alpha": torch.tensor(2.0)}, (2.0 / 4) * halves[0] * halves[1]


def lokr(shape, draw):
    outputs, inputs, *kernel = shape
    first, second = draw(4, 2), draw(outputs // 4, inputs // 2, *kernel)
    whole = torch.kron(first.reshape(4, 2, *[1] * len(kernel)), second)
    return {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(2.0)}, whole  # alpha is not used then


def lokr_of_factors(shape, draw):
    outputs, inputs, *kernel = shape
    area = kernel[0] * kernel[1] if kernel else 1
    first, a, b = draw(4, 2), draw(outputs // 4, 3), draw(3, inputs // 2 * area)
    second = (a @ b).reshape(outputs // 4, inputs // 2, *kernel)
    whole = (6.0 / 3) * torch.kron(first.reshape(4, 2, *[1] * len(kernel)), second)
    return {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(6.0)}, whole


def locon_with_core(shape, draw):
    outputs, inputs, *kernel = shape
    sides = kernel or [1, 1]
    down, mid, up = draw(4, inputs, 1, 1), draw(4, 4, *sides), draw(outputs, 4, 1, 1)
    whole = torch.einsum("op,pqkl,qi->oikl", up[..., 0, 0], mid, down[..., 0, 0]).reshape(shape)
    names = {
        "lora_down.weight": down,
        "lora_mid.weight": mid,
        "lora_up.weight": up,
        "alpha": torch.tensor(2.0),
    }
    return names, (2.0 / 4) * whole


def with_scalar(shape, draw):
    """LyCORIS can train a number beside the factors."""
    names, delta = lokr(shape, draw)
    return {**names, "scalar": torch.tensor(0.25)}, 0.25 * delta


def difference(shape, draw):
    delta = draw(*shape)
    return {"diff": delta}, delta


@pytest.mark.parametrize(
    "kind", [loha, loha_with_core, lokr, lokr_of_factors, locon_with_core, with_scalar, difference]
)
def test_lycoris_adds_what_its_equations_say(model, tmp_path, kind):
    path, wanted = lycoris(model, tmp_path / "a.safetensors", kind)
    before = {layer: model.unet.get_submodule(layer).weight for layer in wanted}
    with loras_attached(model, [(read_lora(path, model), 0.5)]):
        for layer, delta in wanted.items():
            added = model.unet.get_submodule(layer).weight - before[layer]
            assert_close(added, 0.5 * delta)
    assert all(model.unet.get_submodule(layer).weight is weight for layer, weight in before.items())


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


def test_the_table_of_layers_looks_through_wrappers(model):
    table = layer_table(model.unet)
    with random_adapter(model, tokens=False).attach(model):
        inside = layer_table(model.unet)
    assert table.keys() == inside.keys()


@pytest.mark.parametrize(
    "name",
    [
        "lora_kohya.safetensors",
        "lora_kohya_unet.safetensors",
        "lora_lcm.safetensors",
        "lora_diffusers",
        "lora_diffusers_text",
    ],
)
def test_reported_files_are_what_diffusers_makes_of_them(name):
    folder = golden.of_others("sd15_fp16")
    backbone = load_backbone(str(folder), device="cpu")
    lora = read_lora(golden.of_others(name), backbone)
    with loras_attached(backbone, [(lora, 0.8)]):
        ours = predicted(backbone)
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder,
        variant="fp16",
        safety_checker=None,
        feature_extractor=None,
        dtype=torch.float32,
    )
    skip_where_diffusers_cannot([lora.path])
    pipeline.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name, adapter_name="a")
    pipeline.set_adapters(["a"], [0.8])
    with torch.no_grad():
        embeds, _ = pipeline.encode_prompt(PROMPTS[0], "cpu", 1, do_classifier_free_guidance=False)
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        noise = pipeline.unet(latents, 401, encoder_hidden_states=embeds.expand(2, -1, -1)).sample
    assert_same(ours, (embeds, noise))
