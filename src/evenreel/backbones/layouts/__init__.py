"""Configurations of networks whose files hold none, told from the shapes of their tensors.

What shapes do not tell (activations, heads, noise levels) lies in sd1.json and sd2.json, beside this module.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evenreel.backbones.recognise import CLIP_TEXT, OPEN_CLIP_TEXT
from evenreel.backbones.safetensors_file import Header
from evenreel.errors import WeightsError

_HEAD_WIDTH = 64
"""Features of an attention head in CLIP's towers and in the UNet of SD 2.x."""


@cache
def _bases(family: str) -> Mapping[str, Mapping[str, Any]]:
    return json.loads((Path(__file__).parent / f"{family}.json").read_text(encoding="utf-8"))


def base(family: str, part: str) -> dict[str, Any]:
    """What all models of a family (`sd1`, `sd2`) have in common, as a diffusers configuration."""
    return dict(_bases(family)[part])


def unet(header: Header, prefix: str, family: str) -> dict[str, Any]:
    """The configuration of a UNet, or of a ControlNet, in the original code's layout. Raises: WeightsError.

    `prefix` is what its names begin with.
    """
    levels = _levels(header, prefix)
    widths = [level[-1][0] for level in levels]
    attended = [any(depth for _, depth in level) for level in levels]
    if len({len(level) for level in levels}) != 1 or not any(attended):
        raise WeightsError(f"{header.path}: its UNet is not laid out as those of SD 1.x and 2.x are.")
    depth = max(depth for level in levels for _, depth in level)
    into_text = _first(header, rf"{re.escape(prefix)}.*attn2\.to_k\.weight")
    config = base(family, "unet")
    config |= {
        "in_channels": _shape(header, f"{prefix}input_blocks.0.0.weight", 4)[1],
        "block_out_channels": widths,
        "down_block_types": [("CrossAttn" if a else "") + "DownBlock2D" for a in attended],
        "up_block_types": [("CrossAttn" if a else "") + "UpBlock2D" for a in reversed(attended)],
        "layers_per_block": len(levels[0]),
        "cross_attention_dim": into_text[1],
        "transformer_layers_per_block": depth,
    }
    if (out := header.shape(f"{prefix}out.2.weight")) is not None:
        config["out_channels"] = out[0]
    if family == "sd2":
        config["attention_head_dim"] = [max(1, width // _HEAD_WIDTH) for width in widths]
    return config


def autoencoder(header: Header, prefix: str, family: str) -> dict[str, Any]:
    """The configuration of an autoencoder, in the original code's layout or in diffusers'. Raises: WeightsError."""
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


def text_encoder(header: Header, family: str) -> dict[str, Any]:
    """The configuration of the text encoder of a checkpoint. Raises: WeightsError where there is none."""
    if family == "sd2":
        prefix, layer = OPEN_CLIP_TEXT, "transformer.resblocks."
        words, places = "token_embedding.weight", "positional_embedding"
        wide = "mlp.c_fc.weight"
    else:
        prefix = CLIP_TEXT + ("text_model." if has_text_model(header) else "")
        layer, words, wide = "encoder.layers.", "embeddings.token_embedding.weight", "mlp.fc1.weight"
        places = "embeddings.position_embedding.weight"
    layers = 1 + max(_numbers(header, rf"{re.escape(prefix + layer)}(\d+)\..*"), default=-1)
    if not layers or header.shape(prefix + words) is None:
        raise WeightsError(
            f"{header.path}: holds no text encoder; use a copy of the checkpoint that has one."
        )
    if family == "sd2" and (layers == 24 or header.shape(prefix + "text_projection")):
        layers -= 1  # SD 2.x reads what goes into the last layer of OpenCLIP; copies made by diffusers lack that layer
    vocabulary, width = _shape(header, prefix + words, 2)
    marks = vocabulary - 2 if vocabulary < 49_408 else 49_406
    return base(family, "text_encoder") | {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(header, f"{prefix}{layer}0.{wide}", 2)[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": _shape(header, prefix + places, 2)[0],
        "bos_token_id": marks,
        "eos_token_id": marks + 1,
        "pad_token_id": 0 if family == "sd2" else marks + 1,
    }


def has_text_model(header: Header) -> bool:
    """Whether names of the text encoder hold `text_model.`, which some tools that merge checkpoints lose."""
    return any(name.startswith(f"{CLIP_TEXT}text_model.") for name in header.tensors)


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
        raise WeightsError(f"{header.path}: its UNet is not laid out as those of SD 1.x and 2.x are.")
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
