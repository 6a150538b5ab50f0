"""LoRA files as trainers write them, from the same random factors."""

import json

import torch
from safetensors.torch import save_file
from torch import nn

RANK, ALPHA = 4, 2.0
ATTENTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")
TEXT = (".q_proj", ".k_proj", ".v_proj", ".out_proj")


def layers_of(network, ends, kinds=(nn.Linear, nn.Conv2d)):
    """Paths and layers of a network whose names end so."""
    return {
        path.removeprefix("text_model."): layer
        for path, layer in network.named_modules()
        if isinstance(layer, kinds) and path.endswith(ends)
    }


def factors_of(layers, rank=RANK, seed=0, std=0.3):
    """For each path (down, up); of a convolution down is its kernel."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for path, layer in layers.items():
        outputs, inputs, *kernel = layer.weight.shape
        shapes = ((rank, inputs, *kernel), (outputs, rank, *[1] * len(kernel)))
        found[path] = tuple(std * torch.randn(shape, generator=generator) for shape in shapes)
    return found


def save(tensors, path, metadata=None):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def kohya(path, unet=(), text=(), alpha=ALPHA):
    tensors = {}
    for prefix, layers in (("lora_unet_", dict(unet)), ("lora_te_text_model_", dict(text))):
        for layer, (down, up) in layers.items():
            name = prefix + layer.replace(".", "_")
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return save(tensors, path, {"ss_network_module": "networks.lora"})


def peft_style(path, unet=(), text=(), alpha=ALPHA):
    """As diffusers saves what peft trained, with alpha in the metadata."""
    tensors, settings = {}, {}
    for prefix, layers in (("unet.", dict(unet)), ("text_encoder.", dict(text))):
        inner = "text_model." if prefix == "text_encoder." else ""
        for layer, (down, up) in layers.items():
            name = f"{prefix}{inner}{layer}"
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        if layers:
            own = {"r": RANK, "lora_alpha": alpha, "target_modules": sorted(layers), "peft_type": "LORA"}
            settings |= {prefix + key: value for key, value in own.items()}
    return save(tensors, path, {"lora_adapter_metadata": json.dumps(settings)})


def peft_alone(folder, unet, alpha=ALPHA, **changes):
    """A folder as peft itself saves it."""
    folder.mkdir()
    tensors = {}
    for layer, (down, up) in unet.items():
        tensors |= {
            f"base_model.model.{layer}.lora_A.weight": down,
            f"base_model.model.{layer}.lora_B.weight": up,
        }
    save(tensors, folder / "adapter_model.safetensors")
    settings = {"r": RANK, "lora_alpha": alpha, "peft_type": "LORA", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def diffusers_2023(path, unet=(), text=()):
    """Attention processors of early 2023, which know no alpha."""
    tensors = {}
    for layer, (down, up) in dict(unet).items():
        attention, _, which = layer.removesuffix(".0").rpartition(".")
        name = f"unet.{attention}.processor.{which}_lora"
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    for layer, (down, up) in dict(text).items():
        attention, _, which = layer.rpartition(".")
        name = f"text_encoder.text_model.{attention}.to_{which.removesuffix('_proj')}_lora"
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return save(tensors, path)


def diffusers_later(path, unet=(), text=()):
    """Layers with `lora` and `lora_linear_layer` inside, of late 2023."""
    tensors = {}
    for layer, (down, up) in dict(unet).items():
        tensors |= {f"unet.{layer}.lora.down.weight": down, f"unet.{layer}.lora.up.weight": up}
    for layer, (down, up) in dict(text).items():
        name = f"text_encoder.text_model.{layer}.lora_linear_layer"
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return save(tensors, path)
