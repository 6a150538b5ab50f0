"""Tiny networks with random weights in the places of those that metrics look through: CLIP, DINO, LPIPS."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from tiny import WIDTH, tiny_tokenizer

CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
"""AlexNet's: channels out and in, and the side of the kernel, by torchvision's numbers."""


def save_clip(folder: Path, *, seed: int = 0) -> Path:
    """A CLIP with one layer in each tower, for pictures of 32 pixels, with its tokenizer."""
    torch.manual_seed(seed)
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "projection_dim": 16,
    }
    marks = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPConfig(
        text_config={**tower, **marks, "vocab_size": 514},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_dino(folder: Path, *, seed: int = 0) -> Path:
    """A ViT with two layers, for pictures of 32 pixels."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return folder


def lpips_weights(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of the shapes of AlexNet and of LPIPS' layers, by torchvision's and the lpips package's names."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for row, (number, (out, into, side)) in enumerate(CONVOLUTIONS.items()):
        spread = (2 / (into * side * side)) ** 0.5
        weights[f"features.{number}.weight"] = spread * torch.randn(
            out, into, side, side, generator=generator
        )
        weights[f"features.{number}.bias"] = 0.1 * torch.randn(out, generator=generator)
        weights[f"lin{row}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    return weights


def save_lpips(path: Path, *, seed: int = 0) -> Path:
    """The same in a file."""
    save_file(lpips_weights(seed=seed), path)
    return path
