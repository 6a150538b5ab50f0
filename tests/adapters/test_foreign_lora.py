"""LoRAs of other tools change the model as their tools do: noise beside diffusers'."""

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adapters.lora_running import PROMPTS, assert_same, changes, predicted, with_loras
from adapters.lora_writing import (
    ALPHA,
    ATTENTIONS,
    RANK,
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
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.adapters.lora_names import layer_table
from evenreel.backbones import load_backbone
from hosts import golden
from one_file import unet_name
from tiny import SD1, save_tiny


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
