"""Folders of Stable Diffusion XL: what loads, by what they are known, and what is refused in which words."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from closeness import assert_close
from evenreel.backbones import Backbone, load_backbone
from evenreel.errors import WeightsError
from tiny_xl import POOLED, WIDTHS, save_tiny_xl, tiny_xl_unet

TOKENS = 77


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(folder):
    with pytest.raises(WeightsError) as caught:
        load_backbone(str(folder), device="cpu")
    said = str(caught.value)
    assert said.count("\n") == 0
    assert said.endswith(".")
    return said


def test_it_is_a_backbone_whose_parts_load_when_used(saved):
    backbone = load_backbone(str(saved), device="cpu")
    assert isinstance(backbone, Backbone)
    assert (backbone.size_multiple, backbone.native_size, backbone.schedule.steps_offset) == (16, 64, 1)
    assert not {"unet", "vae", "text"} & set(vars(backbone))
    assert backbone.embed(["a"]).shape == (1, TOKENS + 1, sum(WIDTHS))
    assert {"unet", "vae", "text"} & set(vars(backbone)) == {"text"}


@pytest.mark.parametrize("part", ["unet", "text_encoder", "text_encoder_2"])
def test_variants_in_half_precision_load(folder, part, tiny):
    (file,) = (folder / part).glob("*.safetensors")
    save_file({name: value.half() for name, value in load_file(file).items()}, file, {"format": "pt"})
    file.rename(file.with_suffix(".fp16.safetensors"))
    backbone = load_backbone(str(folder), device="cpu")
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        ours, plain = (one.predict_noise(latents, 401, one.embed(["a"])) for one in (backbone, tiny))
    assert_close(ours, plain, within=0.02)


@pytest.mark.parametrize(
    "file", ["text_encoder", "text_encoder_2", "tokenizer_2/tokenizer.json", "model_index.json"]
)
def test_the_fingerprint_covers_both_encoders_and_tokenizers(folder, file, tiny):
    assert load_backbone(str(folder), device="cpu").fingerprint == tiny.fingerprint
    path = folder / file
    if path.is_dir():
        (path,) = path.glob("*.safetensors")
        save_file({n: v + 1e-3 for n, v in load_file(path).items()}, path, {"format": "pt"})
    elif file == "model_index.json":
        change_json(path, force_zeros_for_empty_prompt=False)
    else:
        path.write_text(path.read_text() + "\n")
    assert load_backbone(str(folder), device="cpu").fingerprint != tiny.fingerprint


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
def test_a_missing_encoder_or_tokenizer_is_named(folder, part):
    shutil.rmtree(folder / part)
    said = refused(folder)
    assert f"the folder {part} is missing" in said or f"the {part} folder is missing" in said


def test_missing_weights_of_an_encoder_are_named(folder):
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    assert "text_encoder_2/model.safetensors is missing" in refused(folder)


def refiner_by_its_index(folder):
    change_json(folder / "model_index.json", text_encoder=[None, None], tokenizer=[None, None])
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(folder / "tokenizer")


def refiner_by_its_unet(folder):
    change_json(folder / "unet" / "config.json", projection_class_embeddings_input_dim=POOLED + 5 * 8)
    (folder / "model_index.json").unlink()


@pytest.mark.parametrize("make", [refiner_by_its_index, refiner_by_its_unet])
def test_the_refiner_is_refused_by_name(folder, make):
    make(folder)
    assert "is the refiner of Stable Diffusion XL" in refused(folder)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"cross_attention_dim": 64}, "its text encoders give 96 features and its UNet takes 64"),
        ({"projection_class_embeddings_input_dim": 200}, "do not follow from a pooled text"),
        ({"in_channels": 9}, "is a model for inpainting"),
        ({"time_cond_proj_dim": 32}, "latent consistency model"),
    ],
)
def test_unets_that_take_something_else_are_refused(folder, entries, said):
    change_json(folder / "unet" / "config.json", **entries)
    assert said in refused(folder)


def test_an_inpainting_pipeline_is_refused_by_name(folder):
    change_json(folder / "model_index.json", _class_name="StableDiffusionXLInpaintPipeline")
    assert "is a Stable Diffusion XL model for inpainting" in refused(folder)


def test_another_tokenizer_stands_for_both(saved, tiny):
    """Padding is the mark that each encoder was trained with."""
    other = load_backbone(str(saved), device="cpu", tokenizer=str(saved / "tokenizer"))
    assert torch.equal(other.embed(["a ball"]), tiny.embed(["a ball"]))
    assert other.fingerprint != tiny.fingerprint


def test_the_autoencoder_stays_in_single_precision_where_it_says_so(folder):
    backbone = load_backbone(str(folder), device="cpu", dtype=torch.float16)
    assert backbone.vae.dtype == torch.float32
    change_json(folder / "vae" / "config.json", force_upcast=False)
    assert load_backbone(str(folder), device="cpu", dtype=torch.float16).vae.dtype == torch.float16


def test_a_folder_without_an_index_loads(folder, tiny):
    (folder / "model_index.json").unlink()
    backbone = load_backbone(str(folder), device="cpu")
    assert torch.equal(backbone.embed(["a ball", ""]), tiny.embed(["a ball", ""]))
    assert backbone.fingerprint == tiny.fingerprint


def test_layers_have_several_blocks_in_one_attention(tmp_path):
    names = tiny_xl_unet().attn_processors
    assert any("attentions.0.transformer_blocks.1.attn1" in name for name in names)
    assert save_tiny_xl(tmp_path, seed=3, levels=2).is_dir()
