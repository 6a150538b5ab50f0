"""Which layer a tensor of somebody's LoRA belongs to, and what it is to it: names as trainers write them.

kohya's and LyCORIS' (`lora_unet_down_blocks_0_...lora_down.weight`), diffusers' of all years
(`unet.down_blocks.0....attn1.processor.to_q_lora.down.weight`, `...to_q.lora.down.weight`, `...to_q.lora_A.weight`),
peft's (`base_model.model....`), and those that name layers as the original code does (`input_blocks_1_1_...`). Dots and
underscores are treated alike, so that one table of a model's layers serves all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

_SLOTS: tuple[tuple[str, str], ...] = (
    (r"\.lora_down\.weight|\.lora_A(?:\.\w+)?\.weight|\.lora(?:_linear_layer)?\.down\.weight", "down"),
    (r"\.lora_up\.weight|\.lora_B(?:\.\w+)?\.weight|\.lora(?:_linear_layer)?\.up\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.alpha", "alpha"),
    (r"\.scalar", "scalar"),
    (r"\.dora_scale|\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?", "magnitude"),
    (r"\.diff", "diff"),
    (r"\.diff_b", "diff_b"),
    (r"\.w_norm", "diff"),
    (r"\.b_norm", "diff_b"),
)
"""(how a name ends, what the tensor is), for tensors whose slot has another name than their end."""
_OWN_SLOTS = re.compile(r"\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))$")
_PROCESSOR = re.compile(r"^(.*?)(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
"""How diffusers named the attentions' in 2023."""
_UNET_PREFIXES = (
    "lora_unet_",
    "lycoris_",
    "base_model_model_",
    "unet_",
    "model_diffusion_model_",
    "diffusion_model_",
)
_TEXT_PREFIXES = (
    "lora_te_",
    "lora_te1_",
    "text_encoder_",
    "te_",
    "te1_",
    "lycoris_",
    "base_model_model_",
    "cond_stage_model_transformer_",
)
_SECOND_TEXT_PREFIXES = ("lora_te2_", "text_encoder_2_", "te2_")


@dataclass(frozen=True)
class Slot:
    """What a tensor is."""

    layer: str
    """The layer's name as the file has it, without the end that says what the tensor is."""
    kind: str
    """`down`, `up`, `mid`, `alpha`, `scalar`, `magnitude`, `diff`, `diff_b`, or LyCORIS' own, such as `hada_w1_a`."""


def slot_of(name: str) -> Slot | None:
    """Return what a tensor is by its name; None for a name that no known trainer writes."""
    if match := _PROCESSOR.match(name):
        before, which, end = match.groups()
        if ".self_attn" in before:  # of the text encoder
            return Slot(f"{before}.{'out_proj' if which == 'out' else which + '_proj'}", end)
        return Slot(f"{before}.to_{'out.0' if which == 'out' else which}", end)
    if match := _OWN_SLOTS.search(name):
        return Slot(name[: match.start()], match[1])
    for pattern, kind in _SLOTS:
        if match := re.search(rf"(?:{pattern})$", name):
            return Slot(name[: match.start()], kind)
    return None


def layer_table(module: nn.Module) -> dict[str, str]:
    """Return paths of a network's layers with weights, by their names with underscores for dots.

    A layer inside somebody's wrapper bears the name of the wrapper.
    """
    table = {}
    for path, layer in module.named_modules():
        if isinstance(getattr(layer, "weight", None), nn.Parameter):
            plain = path.removesuffix(".base_layer").removeprefix("text_model.")
            if ".base_layer." not in path and ".lora_" not in path:
                table[plain.replace(".", "_")] = path
    return table


def find_layer(name: str, tables: Mapping[str, Mapping[str, str]], per_level: int) -> tuple[str, str] | None:
    """Return (part, path) of the layer that a file's name means; None where the model has none such.

    `tables` are those of the parts' layers: `unet`, `text` and, of a second text encoder, `text_2`; `per_level` is the
    number of resnets in a level of the UNet's way down.
    """
    flat = name.replace(".", "_")
    for prefix in (*_UNET_PREFIXES, ""):
        if flat.startswith(prefix):
            rest = flat.removeprefix(prefix)
            for candidate in (rest, _from_original(rest, per_level)):
                if candidate in tables["unet"]:
                    return "unet", tables["unet"][candidate]
    for part, prefixes in (("text_2", _SECOND_TEXT_PREFIXES), ("text", (*_TEXT_PREFIXES, ""))):
        for prefix in prefixes:
            if flat.startswith(prefix):
                rest = flat.removeprefix(prefix).removeprefix("text_model_")
                if rest in tables.get(part, {}):
                    return part, tables[part][rest]
    return None


_RESNET = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTER = {
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "input_blocks_0_0": "conv_in",
    "out_0": "conv_norm_out",
    "out_2": "conv_out",
}


def _from_original(name: str, per_level: int) -> str:
    """diffusers' name of a layer of the UNet, from the original code's; both with underscores for dots."""
    if name in _OUTER:
        return _OUTER[name]
    match = re.fullmatch(r"(input|output|middle)_blocks?_(\d+)_?(.*)", name)
    if match is None:
        return name
    side, number, rest = match[1], int(match[2]), match[3]
    if side == "middle":
        kind, index = ("attentions", 0) if number == 1 else ("resnets", number // 2)
        return f"mid_block_{kind}_{index}_{_RESNET.get(rest, rest)}"
    place, _, rest = rest.partition("_")
    if side == "input":
        level, index = divmod(number - 1, per_level + 1)
        if rest == "op":
            return f"down_blocks_{level}_downsamplers_0_conv"
        level_name = "down_blocks"
    else:
        level, index = divmod(number, per_level + 1)
        if rest == "conv":
            return f"up_blocks_{level}_upsamplers_0_conv"
        level_name = "up_blocks"
    kind = "resnets" if place == "0" else "attentions"
    return f"{level_name}_{level}_{kind}_{index}_{_RESNET.get(rest, rest)}"


def per_level(unet: Any) -> int:
    """Count the resnets in a level of a UNet's way down."""
    layers = unet.config.layers_per_block
    return layers if isinstance(layers, int) else layers[0]
