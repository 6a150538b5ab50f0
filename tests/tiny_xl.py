"""A tiny Stable Diffusion XL with random weights, so that tests need no files from anywhere.

    from tiny_xl import save_tiny_xl               # a diffusers folder, 4 MB
    backbone = load_backbone(str(save_tiny_xl(tmp_path)), device="cpu")

It has SD-XL's layout: three levels, of which two attend, with several transformer blocks behind each other; heads by
level; two text encoders of different widths. It works at 64 x 64.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tiny import save_control, tiny_tokenizer, tiny_unet

WIDTHS = (32, 64)
"""Features of the two text encoders."""
POOLED = 48
"""Features of the pooled text."""


def tiny_xl_unet(seed: int = 0, **changes) -> UNet2DConditionModel:
    """A UNet of SD-XL's layout."""
    settings = {
        "sample_size": 8,
        "block_out_channels": (32, 32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4, 8),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": sum(WIDTHS),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": POOLED + 6 * 8,
    }
    return tiny_unet(seed, layers_per_block=2, **(settings | changes))


def tiny_xl_vae(seed: int = 0, levels: int = 4) -> AutoencoderKL:
    """An autoencoder as SD-XL's, which wants single precision."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.13025,
        force_upcast=True,
    ).eval()


def tiny_text_encoders(seed: int = 0) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """CLIP's text model and OpenCLIP's, of three layers each."""
    torch.manual_seed(seed)
    shared: dict[str, Any] = {
        "vocab_size": 514,
        "num_hidden_layers": 3,
        "bos_token_id": 512,
        "eos_token_id": 513,
    }
    first = CLIPTextConfig(
        hidden_size=WIDTHS[0], intermediate_size=64, num_attention_heads=4, pad_token_id=513, **shared
    )
    second = CLIPTextConfig(
        hidden_size=WIDTHS[1],
        intermediate_size=96,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=POOLED,
        pad_token_id=0,
        **shared,
    )
    return CLIPTextModel(first).eval(), CLIPTextModelWithProjection(second).eval()


def save_tiny_xl(folder: Path, *, seed: int = 0, smooth: bool = False, levels: int = 4, **index) -> Path:
    """Write the model in diffusers' layout and return its folder.

    `smooth` makes the noise prediction nearly constant, so that DDIM inverts it; `levels` are those of the autoencoder;
    `index` changes entries of model_index.json.
    """
    unet = tiny_xl_unet(seed)
    if smooth:
        unet.conv_out.weight.data *= 0.02
    first, second = tiny_text_encoders(seed)
    second_tokenizer = tiny_tokenizer()
    second_tokenizer.add_special_tokens({"pad_token": "!"})
    parts = {
        "unet": unet,
        "vae": tiny_xl_vae(seed, levels),
        "text_encoder": first,
        "text_encoder_2": second,
        "tokenizer": tiny_tokenizer(),
        "tokenizer_2": second_tokenizer,
        "scheduler": EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    described = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(described | index), encoding="utf-8")
    return folder


def save_tiny_xl_control(folder: Path, *, seed: int = 0) -> Path:
    """Write a ControlNet for the tiny model, whose conditions matter, in diffusers' layout; return its folder."""
    return save_control(folder, tiny_xl_unet(seed), seed)
