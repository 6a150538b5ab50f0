"""Tiny models as most people have them: in one file, in the layout of the original code.

    from one_file import save_checkpoint           # and the same model as a diffusers folder beside it
    folder, file = save_checkpoint(tmp_path)

The layout is a fact about what tools write; this code turns diffusers' names into the original ones, the other way
round from what is tested.
"""

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tiny import SD1, save_folder, tiny_tokenizer, tiny_unet

WIDTH = 64
"""Features of prompts: one head of CLIP's."""
CHANNELS = (32, 64, 64, 64)
WORDS = 514
"""Of the tests' tokenizer, whose tokens are single bytes."""

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
PLAIN = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
AUTOENCODER = {
    r"(en|de)coder\.conv_norm_out": r"\1coder.norm_out",
    r"encoder\.down_blocks\.(\d)\.resnets\.(\d)": r"encoder.down.\1.block.\2",
    r"encoder\.down_blocks\.(\d)\.downsamplers\.0": r"encoder.down.\1.downsample",
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0": "mid.attn_1",
    r"\.group_norm\.": ".norm.",
    r"\.to_(q|k|v)\.": r".\1.",
    r"\.to_out\.0\.": ".proj_out.",
    r"conv_shortcut": "nin_shortcut",
}
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def unet_name(name, up_attends=False):
    """The original name of a UNet's or ControlNet's tensor; `up_attends` where the first level up has attention."""
    if match := re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)\.(.*)", name):
        level, kind, index, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
        block = f"input_blocks.{3 * level + index + 1}"
        return f"{block}.0.{resnet(rest)}" if kind == "resnets" else f"{block}.1.{rest}"
    if match := re.match(r"up_blocks\.(\d)\.(resnets|attentions|upsamplers)\.(\d)\.(.*)", name):
        level, kind, index, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "upsamplers":
            return f"output_blocks.{3 * level + 2}.{1 if level == 0 and not up_attends else 2}.{rest}"
        block = f"output_blocks.{3 * level + index}"
        return f"{block}.0.{resnet(rest)}" if kind == "resnets" else f"{block}.1.{rest}"
    for ours, theirs in PLAIN.items():
        if name.startswith(ours + "."):
            rest = name.removeprefix(ours + ".")
            return f"{theirs}.{resnet(rest) if 'resnets' in ours else rest}"
    raise KeyError(name)


def resnet(rest):
    layer, _, end = rest.partition(".")
    return f"{RESNET[layer]}.{end}"


def unet_tensors(unet, prefix="model.diffusion_model."):
    attends = hasattr(unet.up_blocks[0], "attentions")
    return {prefix + unet_name(name, attends): tensor for name, tensor in unet.state_dict().items()}


def autoencoder_tensors(vae, prefix="first_stage_model."):
    found = {}
    for name, tensor in vae.state_dict().items():
        attention = "mid_block.attentions" in name
        new = re.sub(
            r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)",
            lambda m: f"decoder.up.{3 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
            name,
        )
        new = new.replace("upsample.0.", "upsample.")
        for ours, theirs in AUTOENCODER.items():
            new = re.sub(ours, theirs, new)
        if attention and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        found[prefix + new] = tensor
    return found


def clip_tensors(text, prefix="cond_stage_model.transformer.text_model."):
    return {prefix + name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}


def open_clip_tensors(text, prefix="cond_stage_model.model."):
    found, layers = {}, {}
    for name, tensor in text.state_dict().items():
        if match := re.fullmatch(r"(.*layers\.\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            layers.setdefault((match[1], match[3]), {})[match[2]] = tensor
            continue
        for ours, theirs in OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        found[prefix + name] = tensor
    for (layer, end), parts in layers.items():
        new = layer.replace("encoder.layers.", "transformer.resblocks.")
        found[f"{prefix}{new}.attn.in_proj_{end}"] = torch.cat([parts[part] for part in "qkv"])
    return found


def control_tensors(net, prefix="control_model."):
    found = {}
    for name, tensor in net.state_dict().items():
        if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)\.(weight|bias)", name):
            new = f"zero_convs.{match[1]}.0.{match[2]}"
        elif name.startswith("controlnet_mid_block."):
            new = name.replace("controlnet_mid_block.", "middle_block_out.0.")
        elif match := re.fullmatch(
            r"controlnet_cond_embedding\.(conv_in|conv_out|blocks\.(\d))\.(\w+)", name
        ):
            place = (
                {"conv_in": 0, "conv_out": 14}.get(match[1]) if match[2] is None else 2 * int(match[2]) + 2
            )
            new = f"input_hint_block.{place}.{match[3]}"
        else:
            new = unet_name(name)
        found[prefix + new] = tensor
    return found


def sd_unet(seed=0, *, second=False, **changes):
    """A UNet whose heads and groups are those of SD 1.x, or 2.x."""
    heads = [max(1, width // 64) for width in CHANNELS] if second else 8
    settings = {
        "block_out_channels": CHANNELS,
        "norm_num_groups": 32,
        "attention_head_dim": heads,
        "cross_attention_dim": WIDTH,
        "use_linear_projection": second,
    }
    return lively(tiny_unet(seed, **(SD1 | settings | changes)), seed)


def sd_vae(seed=0):
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=64,
    )
    return lively(vae.eval(), seed)


def sd_text(seed=0, *, second=False, words=WORDS, layers=3):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=1,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=0 if second else words - 1,
    )
    return lively(CLIPTextModel(config).eval(), seed)


def sd_control(unet, seed=0):
    net = ControlNetModel.from_unet(unet)
    return lively(net.eval(), seed, std=0.05)


@torch.no_grad()
def lively(model, seed, std=0.02):
    """The same with biases and norms that matter, so that a tensor in a wrong place is seen."""
    generator = torch.Generator().manual_seed(seed + 100)
    for weight in model.parameters():
        weight += std * torch.randn(weight.shape, generator=generator)
    return model


def save_checkpoint(folder: Path, *, second=False, seed=0, change=None, metadata=None, **scheduler):
    """(diffusers folder, one file) of the same model; `change` may alter the file's tensors."""
    unet, vae, text = sd_unet(seed, second=second), sd_vae(seed), sd_text(seed, second=second)
    tensors = unet_tensors(unet) | autoencoder_tensors(vae)
    tensors |= open_clip_tensors(text) if second else clip_tensors(text)
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    tensors = tensors if change is None else change(tensors)
    file = folder / "dream.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata)
    tokenizer = tiny_tokenizer()
    if second:
        tokenizer.add_special_tokens({"pad_token": "!"})
    return save_folder(folder / "model", unet, vae, text, tokenizer, **scheduler), file
