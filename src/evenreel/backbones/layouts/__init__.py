"""Configurations of networks whose files hold none, told from the shapes of their tensors.

What shapes do not tell (activations, heads, noise levels) lies in sd1.json, sd2.json and sdxl.json, beside this module.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evenreel.backbones.safetensors_file import Header
from evenreel.errors import WeightsError

_HEAD_WIDTH = 64
"""Features of an attention head in CLIP's towers and in the UNets of SD 2.x and XL."""


@cache
def _bases(family: str) -> Mapping[str, Mapping[str, Any]]:
    return json.loads((Path(__file__).parent / f"{family}.json").read_text(encoding="utf-8"))


def base(family: str, part: str) -> dict[str, Any]:
    """Return what all models of a family (`sd1`, `sd2`, `sdxl`) have in common, as a diffusers configuration."""
    return dict(_bases(family)[part])


def unet(header: Header, prefix: str, family: str) -> dict[str, Any]:
    """Return the configuration of a UNet, or of a ControlNet, in the original code's layout. Raises: WeightsError.

    `prefix` is what its names begin with.
    """
    levels = _levels(header, prefix)
    widths = [level[-1][0] for level in levels]
    attended = [any(depth for _, depth in level) for level in levels]
    if len({len(level) for level in levels}) != 1 or not any(attended):
        raise WeightsError(f"{header.path}: its UNet is not laid out as those of Stable Diffusion are.")
    depths = [max(1, *(depth for _, depth in level)) for level in levels]
    into_text = _first(header, rf"{re.escape(prefix)}.*attn2\.to_k\.weight")
    config = base(family, "unet")
    config |= {
        "in_channels": _shape(header, f"{prefix}input_blocks.0.0.weight", 4)[1],
        "block_out_channels": widths,
        "down_block_types": [("CrossAttn" if a else "") + "DownBlock2D" for a in attended],
        "up_block_types": [("CrossAttn" if a else "") + "UpBlock2D" for a in reversed(attended)],
        "layers_per_block": len(levels[0]),
        "cross_attention_dim": into_text[1],
        "transformer_layers_per_block": depths[0] if len(set(depths)) == 1 else depths,
    }
    if (out := header.shape(f"{prefix}out.2.weight")) is not None:
        config["out_channels"] = out[0]
    if family in ("sd2", "sdxl"):
        config["attention_head_dim"] = [max(1, width // _HEAD_WIDTH) for width in widths]
    return config


def autoencoder(header: Header, prefix: str, family: str) -> dict[str, Any]:
    """Return the configuration of an autoencoder, in the original code's layout or in diffusers'. Raises:
    WeightsError."""
    by_diffusers = any(name.startswith(f"{prefix}encoder.down_blocks.") for name in header.tensors)
    down, block = (
        f"{prefix}encoder.{'down_blocks' if by_diffusers else 'down'}.",
        "resnets" if by_diffusers else "block",
    )
    levels = 1 + max(_numbers(header, rf"{re.escape(down)}(\d+)\.{block}\.0\.conv1\.weight"), default=-1)
    layers = 1 + max(_numbers(header, rf"{re.escape(down)}0\.{block}\.(\d+)\.conv1\.weight"), default=-1)
    if not levels or not layers:
        raise WeightsError(f"{header.path}: holds no encoder of an autoencoder; use a whole one.")
    widths = [_shape(header, f"{down}{level}.{block}.0.conv2.weight", 4)[0] for level in range(levels)]
    return base(family, "vae") | {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "latent_channels": _shape(header, f"{prefix}decoder.conv_in.weight", 4)[1],
    }


def clip_text(header: Header, prefix: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of CLIP's text model, by transformers' names. Raises: WeightsError where there is none.

    Some tools that merge checkpoints lose `text_model.` from its names.
    """
    within = any(name.startswith(f"{prefix}text_model.") for name in header.tensors)
    prefix += "text_model." if within else ""
    layer, places = f"{prefix}encoder.layers.", f"{prefix}embeddings.position_embedding.weight"
    words = f"{prefix}embeddings.token_embedding.weight"
    layers = _layers(header, prefix, layer, words)
    found = _tower(header, words, places, f"{layer}0.mlp.fc1.weight", layers)
    return {**base, **found, "pad_token_id": found["eos_token_id"]}


def open_clip_text(header: Header, prefix: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of OpenCLIP's, by its own names; SD 2.x reads what goes into its last layer, which copies may
    lack."""
    layer, words = f"{prefix}transformer.resblocks.", f"{prefix}token_embedding.weight"
    layers = _layers(header, prefix, layer, words)
    if layers == 24 or header.shape(f"{prefix}text_projection"):
        layers -= 1
    places = f"{prefix}positional_embedding"
    return {**base, **_tower(header, words, places, f"{layer}0.mlp.c_fc.weight", layers), "pad_token_id": 0}


def projected_open_clip_text(header: Header, prefix: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of all of OpenCLIP's text model, with the projection of what is pooled: SD-XL's second one."""
    layer, words = f"{prefix}transformer.resblocks.", f"{prefix}token_embedding.weight"
    layers, places = _layers(header, prefix, layer, words), f"{prefix}positional_embedding"
    found = _tower(header, words, places, f"{layer}0.mlp.c_fc.weight", layers)
    pooled = _shape(header, f"{prefix}text_projection", 2)[1]
    return {**base, **found, "projection_dim": pooled, "pad_token_id": 0}


def _layers(header: Header, prefix: str, layer: str, words: str) -> int:
    layers = 1 + max(_numbers(header, rf"{re.escape(layer)}(\d+)\..*"), default=-1)
    if not layers or header.shape(words) is None:
        raise WeightsError(
            f"{header.path}: holds no text encoder ({prefix.removesuffix('text_model.')}); use a copy of the "
            "checkpoint that has one."
        )
    return layers


def _tower(header: Header, words: str, places: str, wide: str, layers: int) -> dict[str, Any]:
    vocabulary, width = _shape(header, words, 2)
    marks = vocabulary - 2 if vocabulary < 49_408 else 49_406
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(header, wide, 2)[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": _shape(header, places, 2)[0],
        "bos_token_id": marks,
        "eos_token_id": marks + 1,
    }


def _levels(header: Header, prefix: str) -> list[list[tuple[int, int]]]:
    """For each level of the way down, its resnets: (channels, transformer blocks behind it, 0 for no attention)."""
    levels: list[list[tuple[int, int]]] = [[]]
    index = 1
    while True:
        block = f"{prefix}input_blocks.{index}."
        if header.shape(f"{block}0.op.weight"):
            levels.append([])
        elif (resnet := header.shape(f"{block}0.out_layers.3.weight")) is not None and len(resnet) == 4:
            blocks = _numbers(header, rf"{re.escape(block)}1\.transformer_blocks\.(\d+)\..*")
            levels[-1].append((resnet[0], 1 + max(blocks, default=-1)))
        else:
            break
        index += 1
    if not all(levels):
        raise WeightsError(f"{header.path}: its UNet is not laid out as those of Stable Diffusion are.")
    return levels


def _numbers(header: Header, pattern: str) -> set[int]:
    """What a pattern's group stands for in names, as numbers."""
    compiled = re.compile(pattern)
    return {int(match[1]) for name in header.tensors if (match := compiled.fullmatch(name))}


def _first(header: Header, pattern: str) -> tuple[int, ...]:
    compiled = re.compile(pattern)
    return next(
        e.shape for name, e in header.tensors.items() if compiled.fullmatch(name) and len(e.shape) == 2
    )


def _shape(header: Header, name: str, sides: int) -> tuple[int, ...]:
    shape = header.shape(name)
    if shape is None or len(shape) != sides:
        raise WeightsError(
            f"{header.path}: {name} is missing or of an impossible shape; fetch the file again."
        )
    return shape
