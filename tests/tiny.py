"""A tiny Stable Diffusion with random weights, so that tests need no files from anywhere.

    from tiny import save_tiny                     # a diffusers folder, 5 MB
    backbone = load_backbone(str(save_tiny(tmp_path)), device="cpu")

It has the blocks of SD 1.x in their order, and works at 64 x 64. Its UNet has one level and one layer fewer, since what
a test of a law costs is mostly the number of layers; with `SD1` it has them all.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from evenreel.backbones import Backbone, load_backbone

WIDTH = 32
SD1 = {"levels": 4, "layers_per_block": 2}
"""Changes to the tiny UNet with which its layers have the names and the number of those of SD 1.x."""


def tiny_unet(seed: int = 0, *, levels: int = 3, **changes) -> UNet2DConditionModel:
    """A UNet as small as the hosts' rules for layers allow; with `SD1` it has SD 1.x's layers."""
    torch.manual_seed(seed)
    cross = levels - 1
    settings = {
        "sample_size": 8,
        "block_out_channels": (32,) * levels,
        "down_block_types": ("CrossAttnDownBlock2D",) * cross + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * cross,
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(settings | changes)).eval()


def tiny_vae(seed: int = 0) -> AutoencoderKL:
    """An autoencoder that makes latents eight times smaller."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    ).eval()


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with single bytes for a vocabulary: every letter is a token."""
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: row for row, word in enumerate(words)}, merges=[], model_max_length=77)


def tiny_text_encoder(seed: int = 0) -> CLIPTextModel:
    """CLIP's text model with one layer."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config).eval()


def save_tiny(
    folder: Path, *, seed: int = 0, smooth: bool = False, unet_changes: dict | None = None, **scheduler
) -> Path:
    """Write the model in diffusers' layout and return its folder.

    `smooth` makes the noise prediction nearly constant, so that DDIM inverts it; random weights do not invert.
    `unet_changes` goes to `tiny_unet`, `scheduler` changes entries of the scheduler's configuration.
    """
    unet = tiny_unet(seed, **(unet_changes or {}))
    if smooth:
        unet.conv_out.weight.data *= 0.02
    return save_folder(folder, unet, tiny_vae(seed), tiny_text_encoder(seed), tiny_tokenizer(), **scheduler)


def save_folder(folder: Path, unet, vae, text_encoder, tokenizer, **scheduler) -> Path:
    """Write parts of a model in diffusers' layout, with SD 1.x's scheduler, and return the folder."""
    settings = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    DDIMScheduler(**(settings | scheduler)).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def exact_backbone(folder: Path) -> Backbone:
    """The model in `folder`, computing in float64, where laws hold to a billionth."""
    backbone = load_backbone(str(folder), device="cpu")
    backbone.dtype = torch.float64  # before its parts load
    return backbone


def sharp_backbone(folder: Path) -> Backbone:
    """The same with queries and keys larger than at birth, so that attention matters to the outcome."""
    backbone = exact_backbone(folder)
    with torch.no_grad():
        for name, weight in backbone.unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weight.mul_(3)
    return backbone


def save_tiny_control(folder: Path, *, seed: int = 0, **changes) -> Path:
    """Write a ControlNet for the tiny model, whose conditions matter, in diffusers' layout; return its folder."""
    return save_control(folder, tiny_unet(seed, **changes), seed)


def save_control(folder: Path, unet: UNet2DConditionModel, seed: int) -> Path:
    """Write a ControlNet for a UNet, whose conditions matter, in diffusers' layout; return its folder."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            # At birth these are zero, and nothing would get through.
            if "controlnet" in name and "cond_embedding.conv_in" not in name:
                weight.normal_(std=0.3 if "cond_embedding" in name else 0.1)
    net.save_pretrained(folder)
    return folder
