import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from closeness import assert_close
from evenreel.backbones import Backbone, families, load_backbone, stable_diffusion
from evenreel.backbones.devices import choose_device, choose_dtype
from evenreel.errors import SettingsError
from evenreel.ops import number_types
from evenreel.workflows.world.reconstruction import reconstruct
from tiny import save_tiny


def random_frames(count, size=64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def rewrite(file, change):
    save_file(
        {new: value for key, value in load_file(file).items() for new, value in change(key, value)}, file
    )


def test_it_is_a_backbone(tiny, saved):
    assert isinstance(tiny, Backbone)
    assert (tiny.name, tiny.size_multiple, tiny.native_size) == (str(saved), 16, 64)
    assert (tiny.device, tiny.dtype) == (torch.device("cpu"), torch.float32)


def test_parts_load_when_used(saved):
    backbone = families.load(str(saved), device="cpu")
    assert not {"unet", "vae", "text"} & set(vars(backbone))
    backbone.embed(["a"])
    assert {"unet", "vae", "text"} & set(vars(backbone)) == {"text"}


def test_everything_agrees_with_diffusers_own_pipeline(tiny, saved):
    pipeline = StableDiffusionPipeline.from_pretrained(saved, safety_checker=None, feature_extractor=None)
    frames, prompt = random_frames(2), "a red ball"
    with torch.no_grad():
        theirs = pipeline.vae.encode(frames * 2 - 1).latent_dist.mean * pipeline.vae.config.scaling_factor
        embeds, _ = pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
        noise = pipeline.unet(theirs, 401, encoder_hidden_states=embeds.expand(2, -1, -1)).sample
        decoded = pipeline.vae.decode(theirs / pipeline.vae.config.scaling_factor).sample
        assert_close(tiny.encode(frames), theirs)
        assert_close(tiny.embed([prompt]), embeds)
        assert_close(tiny.predict_noise(theirs, 401, embeds), noise)
        assert_close(tiny.decode(theirs), (decoded / 2 + 0.5).clamp(0, 1))


def test_small_batches_change_nothing(tiny, monkeypatch):
    frames = random_frames(5)
    latents = tiny.encode(frames)
    decoded = tiny.decode(latents)
    monkeypatch.setattr(stable_diffusion, "_PIXELS_PER_BATCH", 2 * 64 * 64)
    assert_close(tiny.encode(frames), latents)
    assert_close(tiny.decode(latents), decoded)


def test_decoded_frames_stay_in_range(tiny):
    decoded = tiny.decode(torch.randn(2, 4, 8, 8) * 50)
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_each_prompt_serves_consecutive_latents(tiny):
    latents, embeds = torch.randn(4, 4, 8, 8), tiny.embed(["a", "b"])
    with torch.no_grad():
        together = tiny.predict_noise(latents, 401, embeds)
        apart = [tiny.predict_noise(latents[2 * i : 2 * i + 2], 401, embeds[i : i + 1]) for i in range(2)]
    assert_close(together, torch.cat(apart))


def test_velocity_models_return_noise(tmp_path, tiny):
    velocity = load_backbone(str(save_tiny(tmp_path, prediction_type="v_prediction")), device="cpu")
    latents, embeds, alpha = torch.randn(2, 4, 8, 8), tiny.embed(["a"]), tiny.schedule.alpha(401)
    with torch.no_grad():
        output = tiny.predict_noise(latents, 401, embeds)
        noise = velocity.predict_noise(latents, 401, embeds)
    assert_close(noise, alpha**0.5 * output + (1 - alpha) ** 0.5 * latents)


def test_older_text_encoder_keys_load(folder, tiny):
    rewrite(folder / "text_encoder" / "model.safetensors", lambda key, value: [("text_model." + key, value)])
    older = load_backbone(str(folder), device="cpu")
    assert torch.equal(older.embed(["a red ball"]), tiny.embed(["a red ball"]))


def test_older_autoencoder_keys_load(folder, tiny):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def older(key, value):
        for new, old in names.items():
            if ".attentions." in key:
                key = key.replace(new, old)
        return [(key, value)]

    rewrite(folder / "vae" / "diffusion_pytorch_model.safetensors", older)
    frames = random_frames(1)
    assert torch.equal(load_backbone(str(folder), device="cpu").encode(frames), tiny.encode(frames))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_half_precision_files_compute_in_full_precision_on_a_cpu(folder, part, tiny):
    (file,) = (folder / part).glob("*.safetensors")
    rewrite(file, lambda key, value: [(key, value.half())])
    file.rename(file.with_suffix(".fp16.safetensors"))
    backbone = load_backbone(str(folder), device="cpu")
    model = backbone.text.text_encoder if part == "text_encoder" else getattr(backbone, part)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert_close(backbone.encode(random_frames(1)), tiny.encode(random_frames(1)), within=0.01)


def test_bfloat16_takes_and_gives_float32(saved, tiny):
    backbone = load_backbone(str(saved), device="cpu", dtype=torch.bfloat16)
    frames = random_frames(2)
    latents, embeds = backbone.encode(frames), backbone.embed(["a"])
    with torch.no_grad():
        noise = backbone.predict_noise(latents, 401, embeds)
    assert {t.dtype for t in (latents, embeds, noise, backbone.decode(latents))} == {torch.float32}
    assert next(backbone.unet.parameters()).dtype == torch.bfloat16
    assert_close(latents, tiny.encode(frames), within=0.05)


def test_fingerprints_are_those_of_the_weights(folder, saved, tiny):
    assert load_backbone(str(folder), device="cpu").fingerprint == tiny.fingerprint
    rewrite(folder / "unet" / "diffusion_pytorch_model.safetensors", lambda key, value: [(key, value + 1e-3)])
    assert load_backbone(str(folder), device="cpu").fingerprint != tiny.fingerprint


@pytest.mark.filterwarnings(
    "ignore:Deprecated in 0.9.0"
)  # transformers 5.6 reads the two files in the older way
def test_a_tokenizer_of_vocabulary_and_merges_alone_loads(folder, tiny):
    import json

    tokenizer = folder / "tokenizer"
    vocab = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "vocab.json").write_text(json.dumps(vocab))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    prompts = ["a red ball", ""]
    assert torch.equal(
        load_backbone(str(folder), device="cpu").text.tokenize(prompts), tiny.text.tokenize(prompts)
    )


@pytest.mark.parametrize("prompt", ["", " ", "ä ö ü 猫 🎈", "<b>bold</b>", "a" * 75, "line\nbreak"])
def test_unusual_prompts_embed(tiny, prompt):
    embeds = tiny.embed([prompt])
    assert embeds.shape == (1, 77, 32)
    assert torch.isfinite(embeds).all()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a" * 1600, r"is 22 times as long as what this model reads at once.*shorten it\.$"),
        ("a\0b", r"'a\\x00b' contains a NUL or a lone surrogate"),
        ("a\ud800b", r"'a\\ud800b' contains a NUL or a lone surrogate"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused(tiny, prompt, said):
    with pytest.raises(SettingsError, match=said) as caught:
        tiny.embed(["fine", prompt])
    str(caught.value).encode()  # can be printed


def test_devices_and_dtypes():
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert choose_device(None) == choose_device("auto")
    assert choose_dtype(None, cpu) == choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.float16
    assert choose_dtype(torch.bfloat16, cpu) == torch.bfloat16
    for wrong in ("cuda:99", "abacus", "meta"):
        with pytest.raises(SettingsError, match="device"):
            choose_device(wrong)
    for wrong in ("float64", torch.int8):
        with pytest.raises(SettingsError, match="float16"):
            choose_dtype(wrong, cpu)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_slow_dtype_is_refused_with_both_figures(monkeypatch, name):
    cpu, dtype = torch.device("cpu"), getattr(torch, name)
    rates = {torch.float32: 75.0, dtype: 0.97}
    monkeypatch.setattr(number_types, "_measured", lambda dtype, device: rates[dtype])
    with pytest.raises(SettingsError, match=f"dtype {name} .* 1.0 GFLOP/s against 75 GFLOP/s in float32"):
        choose_dtype(name, cpu)
    assert choose_dtype(dtype, cpu) is dtype  # torch's own type insists
    rates[dtype] = 75.0
    assert choose_dtype(name, cpu) is dtype


def test_inversion_reconstructs_a_smooth_model(tmp_path):
    backbone = load_backbone(str(save_tiny(tmp_path, smooth=True)), device="cpu")
    frames = random_frames(3)
    coarse, fine = (
        reconstruct(backbone, frames, "a star", inversion="ddim", steps=steps, batch=2) for steps in (4, 16)
    )
    assert (coarse.predictions, fine.predictions) == (4, 16)
    assert coarse.psnr_to_autoencoder < fine.psnr_to_autoencoder
    assert fine.psnr_to_autoencoder > 30
    assert_close(fine.latents, backbone.encode(frames), within=0.1)


def test_a_copied_model_equals_its_original(saved, tmp_path, tiny):
    copy = load_backbone(str(shutil.copytree(saved, tmp_path / "ünï code")), device="cpu")
    assert torch.equal(copy.embed(["a"]), tiny.embed(["a"]))


def test_an_autoencoder_that_overflows_in_half_precision_decodes_in_single(folder, tiny):
    """Its last layer makes numbers that float16 does not hold."""

    def larger(key, value):
        return [(key, value * 1e5 if key == "decoder.conv_out.weight" else value)]

    rewrite(folder / "vae" / "diffusion_pytorch_model.safetensors", larger)
    model = load_backbone(str(folder), device="cpu")
    latents = tiny.encode(random_frames(1))
    wanted = model.decode(latents)
    model.vae.to(torch.float16)
    with torch.no_grad():
        half = model.vae.decode((latents / 0.18215).half(), return_dict=False)[0]
    assert not bool(torch.isfinite(half).all())
    assert (model.decode(latents) - wanted).abs().mean() < 0.02  # weights were rounded to half
    assert model.vae.dtype == torch.float32
