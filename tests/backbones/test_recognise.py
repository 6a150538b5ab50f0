"""What a file of weights is said to be, and with which setting it is used: a file of each kind that people have."""

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from evenreel.backbones.embeddings import read_embedding
from evenreel.backbones.recognise import recognise, used_as
from evenreel.backbones.safetensors_file import read_header
from evenreel.errors import WeightsError
from evenreel.workflows.inspect.weight_files import describe_file

U, XL = "model.diffusion_model.", "conditioner.embedders."
ATTENDED = "1.transformer_blocks.0.attn2.to_k.weight"
LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
MOTION = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
HINT = "input_hint_block.0.weight"


def tensors(*names: str, **sized: Any) -> dict[str, torch.Tensor]:
    """Tensors of those names; the last may have a size of its own."""
    found = {name: torch.zeros(1) for name in names}
    if sized:
        found[names[-1]] = torch.zeros(sized["shape"])
    return found


def unet(*more: str, **sized: Any) -> dict[str, torch.Tensor]:
    """A checkpoint's, with tensors besides."""
    return tensors(f"{U}input_blocks.0.0.bias", *more, **sized)


def lora(width: int, *ends: str) -> dict[str, torch.Tensor]:
    return {
        f"{LORA}.lora_down.weight": torch.zeros(4, width),
        f"{LORA}.lora_up.weight": torch.zeros(320, 4),
        **{f"{LORA}.{end}": torch.zeros(1) for end in ends},
    }


@pytest.mark.parametrize(
    ("held", "said", "used"),
    [
        # whole models, by the width of their prompts, their text encoders and their inputs
        (unet(f"{U}input_blocks.1.{ATTENDED}", shape=(320, 768)), "1.x", "model"),
        (unet(f"{U}input_blocks.1.{ATTENDED}", shape=(320, 1024)), "2.x", "model"),
        (unet(f"{U}input_blocks.4.{ATTENDED}", shape=(640, 2048)), "XL", "model"),
        (unet(f"{U}label_emb.0.0.weight"), "XL", "model"),
        (
            unet(f"{XL}0.transformer.x", f"{U}input_blocks.0.0.weight", shape=(320, 9, 3, 3)),
            "Stable Diffusion XL for inpainting",
            None,
        ),
        (unet(f"{U}input_blocks.0.0.weight", shape=(320, 5, 3, 3)), "for depth-to-image", None),
        (unet(f"{U}input_blocks.0.0.weight", shape=(320, 7, 3, 3)), "for upscaling", None),
        (
            tensors("model_ema.diffusion_modelinput_blocks00weight"),
            "with averaged weights only (model_ema)",
            None,
        ),
        (
            tensors("input_blocks.0.0.weight", "input_blocks.1.1.proj_in.weight"),
            "the noise predictor of a model by itself",
            None,
        ),
        (
            tensors("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"),
            "the UNet of a diffusers folder by itself",
            None,
        ),
        # parts
        (tensors("first_stage_model.decoder.conv_in.weight", shape=(512, 4, 3, 3)), "an autoencoder", "vae"),
        (tensors("decoder.conv_in.weight", shape=(512, 4, 3, 3)), "an autoencoder", "vae"),
        (tensors("decoder.conv_in.weight", shape=(512, 16, 3, 3)), "an autoencoder with 16 channels", None),
        (tensors("taesd_decoder.1.weight"), "a tiny autoencoder (TAESD)", None),
        (tensors("text_model.encoder.layers.0.mlp.fc1.weight"), "a text encoder", None),
        (tensors("encoder.block.0.layer.0.SelfAttention.q.weight"), "a T5 text encoder", None),
        (tensors("visual.transformer.resblocks.0.ln_1.weight"), "a CLIP", None),
        # ControlNets and what is like them
        (
            tensors(f"control_model.{HINT}", f"control_model.input_blocks.1.{ATTENDED}", shape=(320, 768)),
            "a ControlNet for Stable Diffusion 1.x",
            "control",
        ),
        (
            tensors(HINT, f"input_blocks.1.{ATTENDED}", shape=(320, 1024)),
            "a ControlNet for Stable Diffusion 2.x",
            "control",
        ),
        (
            tensors("controlnet_cond_embedding.conv_in.weight", "add_embedding.linear_1.weight"),
            "a ControlNet for Stable Diffusion XL",
            "control",
        ),
        (tensors(HINT, "difference"), "a ControlNet saved as a difference to one model", None),
        (tensors(HINT, "lora_controlnet"), "a Control-LoRA", None),
        (tensors(f"control_model.{HINT}", "task_embedding"), "a union of several ControlNets in one", None),
        (tensors("lllite_unet_input_blocks_4_1_attn1_to_q.down.0.weight"), "a ControlNet-LLLite", None),
        (tensors("body.0.block1.weight"), "a T2I-Adapter", None),
        (tensors("image_proj.proj.weight"), "an IP-Adapter", None),
        # LoRAs of all kinds and families
        (lora(768), "a LoRA for Stable Diffusion 1.x", "lora"),
        (lora(1024), "a LoRA for Stable Diffusion 2.x", "lora"),
        (lora(2048), "a LoRA for Stable Diffusion XL", "lora"),
        (lora(32), "a LoRA", "lora"),
        (lora(768, "dora_scale"), "a DoRA for Stable Diffusion 1.x", "lora"),
        (lora(768, "hada_w1_a"), "a LoHa for", "lora"),
        (lora(768, "lokr_w1"), "a LoKr for", "lora"),
        (lora(768, "oft_blocks"), "an OFT for", None),
        (tensors("transformer.joint_blocks.0.x.lora_A.weight"), "a LoRA for Stable Diffusion 3", None),
        (tensors("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"), "a LoRA for Flux", None),
        (tensors("diffusion_model.blocks.0.self_attn.q.lora_down.weight"), "a LoRA for Wan", None),
        (
            tensors("down_blocks.0.motion_modules.0.x.to_q_lora.down.weight"),
            "a LoRA of a motion module",
            None,
        ),
        # motion modules
        (tensors(MOTION, MOTION.replace("blocks.0", "blocks.3")), "a set of motion modules", "motion"),
        (tensors(MOTION), "a set of motion modules for Stable Diffusion XL", "motion"),
        (tensors(MOTION, "conv_in.weight"), "as PIA has them", None),
        (tensors(MOTION, "controlnet_cond_embedding.conv_in.weight"), "a SparseCtrl", None),
        (
            tensors(MOTION, "down_blocks.0.resnets.0.conv1.weight"),
            "a whole UNet with motion modules inside",
            None,
        ),
        (tensors("down_blocks.0.temporal_attentions.0.norm.weight"), "a motion module of Hotshot-XL", None),
        # embeddings
        (tensors("emb_params", shape=(2, 768)), "an embedding for Stable Diffusion 1.x", "embedding"),
        (tensors("<word>", shape=(1024,)), "an embedding for Stable Diffusion 2.x", "embedding"),
        (
            {"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)},
            "an embedding for Stable Diffusion XL",
            "embedding",
        ),
        # other families, and what is none of these
        (tensors("model.diffusion_model.double_blocks.0.img_attn.qkv.weight"), "a Flux model", None),
        (tensors("model.diffusion_model.joint_blocks.0.x.weight"), "a Stable Diffusion 3 model", None),
        (tensors("model.diffusion_model.blocks.0.self_attn.q.weight"), "a Wan video model", None),
        (
            tensors(f"{U}input_blocks.0.0.weight", "x.quant_state.bitsandbytes__nf4"),
            "a quantised model",
            None,
        ),
        (unet("x.scale_weight"), "a quantised model", None),
        (unet("scaled_fp8"), "a quantised model", None),
        (tensors("conv_first.weight"), "an upscaler", None),
        (tensors("something", "else"), "not a kind of file that evenreel knows (its first tensor is", None),
    ],
)
def test_a_file_is_named(tmp_path, held, said, used):
    save_file(held, tmp_path / "file.safetensors")
    found = recognise(read_header(tmp_path / "file.safetensors"))
    assert said in found.said
    assert used_as(found) == used


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"emb_params": torch.zeros(0, 768)}, "must hold from 1 to 75 vectors"),
        ({"emb_params": torch.zeros(76, 768)}, "must hold from 1 to 75 vectors"),
        ({"emb_params": torch.zeros(1, 2, 768)}, "must hold from 1 to 75 vectors"),
        ({"emb_params": torch.full((2, 768), torch.nan)}, "vectors of finite numbers"),
        ({"emb_params": torch.zeros(2, 768, dtype=torch.int32)}, "numbers of type I32"),
        (
            {"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(3, 1280)},
            "as many vectors for each text encoder",
        ),
    ],
)
def test_a_broken_embedding_is_not_described(tmp_path, held, said):
    save_file(held, tmp_path / "word.safetensors")
    with pytest.raises(WeightsError, match=said):
        describe_file(tmp_path / "word.safetensors")


@pytest.mark.parametrize(
    ("name", "word"),
    [("emb_params", "Charm"), ("*", "Charm"), ("string_to_param.*", "Charm"), ("<cat>", "<cat>")],
)
def test_the_word_of_an_embedding_is_its_own_or_that_of_its_file(tmp_path, name, word):
    save_file({name: torch.zeros(2, 8)}, tmp_path / "Charm.safetensors")
    assert read_embedding(tmp_path / "Charm.safetensors", [8]).token == word


def test_an_embeddings_vectors_are_counted(tmp_path):
    save_file({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}, tmp_path / "word.safetensors")
    assert describe_file(tmp_path / "word.safetensors").facts["vectors"] == "2 of 768 and 1280 features"
