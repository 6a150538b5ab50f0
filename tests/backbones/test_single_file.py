"""A model in one file computes what the same model in a folder computes."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from evenreel.backbones import load_backbone
from evenreel.backbones.tokenizer import clip_tokenizer
from evenreel.errors import WeightsError
from hosts import golden
from one_file import (
    WORDS,
    autoencoder_tensors,
    clip_tensors,
    save_checkpoint,
    sd_text,
    sd_unet,
    sd_vae,
    unet_tensors,
)

PROMPTS = ["a red ball", ""]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(folder, file) of a tiny SD 1.x; not to be changed."""
    return save_checkpoint(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """The same of a tiny SD 2.x that predicts v."""
    folder = tmp_path_factory.mktemp("second")
    return save_checkpoint(folder, second=True, prediction_type="v_prediction")


def altered(file, folder, change, metadata=None):
    """A copy of a file, in another folder, with its tensors changed."""
    copy = folder / "dream.safetensors"
    save_file({n: t.contiguous() for n, t in change(load_file(file)).items()}, copy, metadata)
    return copy


def opened(path, **options):
    return load_backbone(str(path), device="cpu", **options)


def from_file(file, folder, **options):
    """The file's tokenizer is not in it, and these models do not speak CLIP's vocabulary."""
    return opened(file, tokenizer=str(Path(folder) / "tokenizer"), **options)


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def differences(one, other):
    """Relative differences of noise, hidden states, latents and frames."""
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    latents, embeds = other.encode(frames), other.embed(PROMPTS)
    return {
        "encode": relative(one.encode(frames), latents),
        "embed": relative(one.embed(PROMPTS), embeds),
        "noise": relative(one.predict_noise(latents, 401, embeds), other.predict_noise(latents, 401, embeds)),
        "decode": relative(one.decode(latents), other.decode(latents)),
    }


def assert_same(one, other, tolerance=3e-6):
    found = differences(one, other)
    assert max(found.values()) <= tolerance, found


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_file_is_its_folder(which, request):
    folder, file = request.getfixturevalue(which)
    options = {"prediction_type": "v_prediction"} if which == "second" else {}
    model, whole = from_file(file, folder, **options), opened(folder)
    assert_same(model, whole)
    assert model.schedule == whole.schedule
    assert (model.size_multiple, model.native_size) == (16, 768 if which == "second" else 512)


@torch.no_grad()
def test_a_file_is_what_diffusers_makes_of_it(first):
    """Beside diffusers' own reader of such files, which needs a folder for configurations and tokenizer."""
    folder, file = first
    pipeline = StableDiffusionPipeline.from_single_file(
        str(file), config=str(folder), local_files_only=True, safety_checker=None, feature_extractor=None
    )
    model = from_file(file, folder)
    embeds, _ = pipeline.encode_prompt(PROMPTS[0], "cpu", 1, do_classifier_free_guidance=False)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = pipeline.unet(latents, 401, encoder_hidden_states=embeds.expand(2, -1, -1)).sample
    assert relative(model.embed(PROMPTS[:1]), embeds) <= 1e-6
    assert relative(model.predict_noise(latents, 401, embeds), noise) <= 1e-5


def without_text_model(tensors):
    return {name.replace("transformer.text_model.", "transformer."): t for name, t in tensors.items()}


def with_ema_beside(tensors):
    unet = {n: t for n, t in tensors.items() if n.startswith("model.diffusion_model.")}
    flat = {"model_ema." + "".join(n.split(".")[1:]): t + 1 for n, t in unet.items()}
    return {
        **tensors,
        **flat,
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(1),
    }


def as_trained(tensors):
    """What is left of a training: losses, positions, noise levels."""
    return {
        **tensors,
        "first_stage_model.loss.logvar": torch.zeros(()),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "alphas_cumprod": torch.ones(1000),
        "global_step": torch.tensor(7),
    }


def rounded(dtype):
    return lambda tensors: {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


@pytest.mark.parametrize("change", [without_text_model, with_ema_beside, as_trained])
def test_files_of_many_tools_are_the_same_model(tmp_path, first, change):
    folder, file = first
    file = altered(file, tmp_path, change)
    assert_same(from_file(file, folder), opened(folder))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_rounded_weights_are_those_numbers(tmp_path, first, dtype):
    folder, file = first
    file = altered(file, tmp_path, rounded(dtype))
    model = from_file(file, folder)
    stored = load_file(file)["model.diffusion_model.input_blocks.0.0.weight"]
    assert stored.dtype == dtype
    assert torch.equal(model.unet.conv_in.weight, stored.float())
    assert model.dtype == model.unet.conv_in.weight.dtype == torch.float32


def test_a_pruned_file_needs_an_autoencoder(tmp_path, first):
    folder, whole = first

    def pruned(tensors):
        return {name: t for name, t in tensors.items() if not name.startswith("first_stage_model.")}

    file = altered(whole, tmp_path, pruned)
    with pytest.raises(WeightsError, match=r"holds no autoencoder; name one as vae"):
        from_file(file, folder)
    for vae in (folder / "vae", folder, whole):
        assert_same(from_file(file, folder, vae=str(vae)), opened(folder))


def test_another_autoencoder(tmp_path, first):
    folder, file = first
    other = sd_vae(seed=3)
    other.save_pretrained(tmp_path / "vae")
    save_file(
        {n: t.contiguous() for n, t in autoencoder_tensors(other, prefix="").items()},
        tmp_path / "vae.safetensors",
    )
    frames = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = other.encode(frames * 2 - 1).latent_dist.mean * 0.18215
    shutil.copy(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", tmp_path / "alone.safetensors")
    forms = ("vae", "vae.safetensors", "vae/diffusion_pytorch_model.safetensors", "alone.safetensors")
    for vae in forms:
        for model in (file, folder):
            found = opened(model, vae=str(tmp_path / vae))
            assert relative(found.encode(frames), wanted) <= 1e-5
            assert found.fingerprint != opened(model).fingerprint


def v_marked(tensors):
    return {**tensors, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}


def test_marks_of_v_prediction_and_zero_terminal_signal_are_obeyed(tmp_path, first):
    file = altered(first[1], tmp_path, v_marked)
    schedule = opened(file).schedule
    assert schedule.prediction_type == "v_prediction"
    assert schedule.alphas_cumprod[-1] < 1e-6
    assert all(later < earlier for earlier, later in pairwise(schedule.alphas_cumprod))


@pytest.mark.parametrize("said", ["v", "epsilon"])
def test_metadata_say_what_is_predicted(tmp_path, second, said):
    file = altered(second[1], tmp_path, dict, {"modelspec.prediction_type": said})
    model = opened(file)
    assert model.schedule.prediction_type.startswith(said)
    assert model.notices == ()
    assert model.native_size == (768 if said == "v" else 512)


def test_a_configuration_beside_the_file_says_it_too(tmp_path, first):
    file = altered(first[1], tmp_path, dict)
    file.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: v\n")
    assert opened(file).schedule.prediction_type == "v_prediction"
    file.with_suffix(".yaml").write_text("[")
    with pytest.raises(WeightsError, match=r"dream.yaml: is not a configuration"):
        opened(file)


def test_what_an_sd_2_file_does_not_say_is_assumed_aloud(second):
    _, file = second
    model = opened(file)
    assert model.schedule.prediction_type == "v_prediction"
    assert "does not say what it predicts and is taken for v_prediction" in model.notices[0]
    assert opened(file, prediction_type="epsilon").schedule.prediction_type == "epsilon"
    assert not opened(file, prediction_type="epsilon").notices


@pytest.mark.parametrize("skip", [1, 2, 3])
@torch.no_grad()
def test_clip_skip_is_the_final_norm_of_an_earlier_layer(first, skip):
    folder, _ = first
    model = opened(folder, clip_skip=skip)
    text = sd_text()
    states = text(model.text.tokenize(PROMPTS), output_hidden_states=True).hidden_states
    assert relative(model.embed(PROMPTS), text.final_layer_norm(states[-skip])) <= 1e-6
    assert (model.fingerprint == opened(folder).fingerprint) == (skip == 1)


def test_a_skip_beyond_the_layers_is_refused(first):
    with pytest.raises(WeightsError, match="has 3 layers, and clip_skip is 4"):
        opened(first[0], clip_skip=4)


def test_clips_tokenizer_comes_with_the_package(tmp_path):
    """49,408 words; SD 2.x pads with `!`."""
    assert clip_tokenizer()("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    tensors = unet_tensors(sd_unet()) | autoencoder_tensors(sd_vae()) | clip_tensors(sd_text(words=49_408))
    save_file({n: t.contiguous() for n, t in tensors.items()}, tmp_path / "dream.safetensors")
    model = opened(tmp_path / "dream.safetensors")
    assert model.text.tokenize(["a cat"])[0, :5].tolist() == [49406, 320, 2368, 49407, 49407]
    assert clip_tokenizer(padding="!")("a", padding="max_length", max_length=4).input_ids[2:] == [49407, 0]


def test_a_vocabulary_that_is_not_clips_wants_its_tokenizer(first):
    with pytest.raises(WeightsError, match=rf"knows {WORDS} tokens .* name the folder of the tokenizer"):
        opened(first[1]).embed(["a"])


def test_nothing_is_asked_of_the_hub(first, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a connection was opened"))
    folder, file = first
    from_file(file, folder).embed(["a"])


def test_fingerprints_are_those_of_content_and_of_what_is_assumed(first, tmp_path):
    _, file = first
    model = opened(file)
    copy = shutil.copy(file, tmp_path / "other.safetensors")
    assert opened(copy).fingerprint == model.fingerprint
    assert opened(file, prediction_type="v_prediction").fingerprint != model.fingerprint
    assert opened(file).unet_fingerprint == opened(first[0]).unet_fingerprint


def changed(name, shape=None):
    def change(tensors):
        found = dict(tensors)
        tensor = found.pop(name)
        return found if shape is None else {**found, name: torch.zeros(shape, dtype=tensor.dtype)}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("model.diffusion_model.out.0.bias"), "its unet has weights that are missing"),
        (changed("model.diffusion_model.out.0.bias", 7), "its unet has weights that are missing"),
        (changed("model.diffusion_model.input_blocks.0.0.weight", (32, 9, 3, 3)), "1.x for inpainting; use"),
        (changed("model.diffusion_model.input_blocks.0.0.weight", (32, 8, 3, 3)), "for instruct-pix2pix"),
        (
            lambda tensors: {n: t for n, t in tensors.items() if "cond_stage" not in n},
            "holds no text encoder",
        ),
        (
            lambda t: {**t, "conditioner.embedders.0.x": torch.zeros(1)},
            r"holds no text encoder \(conditioner.embedders.0.transformer\.\)",
        ),
        (
            lambda t: {n: v for n, v in with_ema_beside(t).items() if "model.diffusion" not in n},
            "with averaged weights only",
        ),
        (lambda t: {"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, "is a Flux model, not a model"),
        (lambda t: {"a.joint_blocks.0.x.weight": torch.zeros(1)}, "is a Stable Diffusion 3 model"),
        (lambda t: {"blocks.0.self_attn.q.weight": torch.zeros(1)}, "is a Wan video model"),
        (lambda t: {**t, "a.quant_state.bitsandbytes__nf4": torch.zeros(1)}, "is a quantised model"),
        (lambda t: {n.removeprefix("first_stage_model."): v for n, v in t.items() if "first" in n}, "as vae"),
        (lambda t: {"emb_params": torch.zeros(2, 64)}, "is an embedding, not a model; give it as embedding"),
        (
            lambda t: {"lora_unet_x.lora_down.weight": torch.zeros(2, 64)},
            "is a LoRA, not a model; give it as",
        ),
    ],
)
def test_what_is_not_a_model_is_said_with_what_to_do(tmp_path, first, change, said):
    file = altered(first[1], tmp_path, change)
    with pytest.raises(WeightsError, match=said) as caught:
        _ = opened(file).unet
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"GGUF\x03\0\0\0" + bytes(64), "is a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x80\x02}q\0." + bytes(64), "this is a pickle"),
        (b"PK\x03\x04" + bytes(64), "this is a pickle"),
    ],
)
def test_files_of_other_formats(tmp_path, start, said):
    file = tmp_path / "dream.safetensors"
    file.write_bytes(start)
    with pytest.raises(WeightsError, match=said):
        opened(file)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_folder_of_one_part_is_named(first, part):
    said = {"vae": "is an autoencoder, not a whole model; give it as vae", "unet": "is the UNet of a model"}
    with pytest.raises(WeightsError, match=said[part]):
        opened(first[0] / part)


def test_a_folder_with_a_lora_is_named_by_what_is_in_it(tmp_path):
    factors = {"lora_unet_down_blocks_0_x.lora_down.weight": torch.zeros(2, 4)}
    factors["lora_unet_down_blocks_0_x.lora_up.weight"] = torch.zeros(4, 2)
    save_file(factors, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(WeightsError) as caught:
        opened(tmp_path)
    assert "a folder with pytorch_lora_weights.safetensors, which is a LoRA" in str(caught.value)
    assert "give that file as lora" in str(caught.value)


def test_the_reported_file_is_the_reported_folder():
    """A pair made by other tools."""
    folder, file = golden.of_others("sd15_fp16"), golden.of_others("sd15_single_file.safetensors")
    assert_same(from_file(file, folder), opened(folder))
    assert json.loads((folder / "unet" / "config.json").read_text())["sample_size"] == 8
