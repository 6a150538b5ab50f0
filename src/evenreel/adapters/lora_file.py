"""LoRA weights in the common format of diffusers and peft: `unet.<layer>.lora_A.weight`, one file for all tools."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evenreel.adapters.checkpoint import lora_of, read_tensors, write_tensors
from evenreel.adapters.lora import PROJECTIONS, Lora
from evenreel.adapters.settings import LoraSettings
from evenreel.errors import WeightsError

NAME = "pytorch_lora_weights.safetensors"
"""What diffusers looks for in a folder."""
_PREFIX = "unet."
_FIRST, _SECOND, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
_UNSUPPORTED = ("use_dora", "use_rslora", "lora_bias")


def export_lora(lora: Lora, path: str | Path) -> Path:
    """Write a LoRA for diffusers' `load_lora_weights`, into a file, or into a folder under diffusers' NAME.

    B is multiplied by alpha / rank, so that tools that know no alpha make the same of it. Returns the file.
    Raises: OutputError.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    tensors = {
        _PREFIX + name: tensor * lora.settings.scaling if name.endswith(_SECOND) else tensor
        for name, tensor in lora.tensors().items()
    }
    rank = lora.settings.rank
    modules = sorted(lora.shapes)
    config = {"r": rank, "lora_alpha": rank, "target_modules": modules, "peft_type": "LORA"}
    packed = json.dumps({_PREFIX + name: value for name, value in config.items()}, sort_keys=True)
    write_tensors(path, tensors, {"format": "pt", "lora_adapter_metadata": packed})
    return path


def import_lora(path: str | Path) -> Lora:
    """Read a LoRA of a UNet's attentions that another tool wrote, from a file or a folder.

    Whatever its alpha was is in its factors afterwards; smaller ranks are filled up with zeros. Raises: WeightsError.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    tensors, metadata = read_tensors(path)
    config = _config(path, metadata)
    paths = _paths(path, tensors)
    ranks = {name: _rank(path, name, tensors) for name in paths}
    rank = max(ranks.values())
    factors: dict[str, Tensor] = {}
    for name, own in ranks.items():
        first, second = (tensors[_PREFIX + name + end].float() for end in (_FIRST, _SECOND))
        scaling = _alpha(name, own, tensors, config) / own
        factors[name + _FIRST] = torch.cat([first, first.new_zeros(rank - own, first.shape[1])])
        factors[name + _SECOND] = torch.cat(
            [second * scaling, second.new_zeros(second.shape[0], rank - own)], dim=1
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in factors.values()):
        raise WeightsError(f"{path}: contains NaN or infinite weights; fetch the LoRA again.")
    return lora_of(factors, LoraSettings(rank=rank, alpha=float(rank), scope=paths))


def _paths(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    for name in tensors:
        layer = name.removeprefix(_PREFIX)
        for end in (_FIRST, _SECOND, _ALPHA):
            layer = layer.removesuffix(end)
        if not name.startswith(_PREFIX) or layer == name or not layer.endswith(PROJECTIONS):
            raise WeightsError(
                f"{path}: changes something else than the attention of a UNet ({name}), which adapters do not."
            )
    paths = tuple(sorted(n.removeprefix(_PREFIX).removesuffix(_FIRST) for n in tensors if n.endswith(_FIRST)))
    if not paths:
        raise WeightsError(f"{path}: holds no LoRA of a UNet.")
    return paths


def _rank(path: Path, name: str, tensors: Mapping[str, Tensor]) -> int:
    first, second = (tensors.get(_PREFIX + name + end) for end in (_FIRST, _SECOND))
    fits = (
        first is not None
        and second is not None
        and first.ndim == second.ndim == 2
        and len(first) == second.shape[1] >= 1
    )
    if not fits or first is None:
        raise WeightsError(f"{path}: the factors of {name} do not belong together; fetch the LoRA again.")
    return len(first)


def _alpha(name: str, rank: int, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> float:
    if _PREFIX + name + _ALPHA in tensors:
        return float(tensors[_PREFIX + name + _ALPHA])
    pattern = config.get("alpha_pattern") or {}
    return float(pattern.get(name, config.get("lora_alpha", rank)))


def _config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What peft knew of the LoRA, where the file tells."""
    try:
        packed = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        config = {n.removeprefix(_PREFIX): value for n, value in packed.items() if n.startswith(_PREFIX)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: its description is damaged; fetch the LoRA again.") from error
    if special := [name for name in _UNSUPPORTED if config.get(name)]:
        raise WeightsError(f"{path}: is a LoRA with {special[0]}, which adapters do not have.")
    return config
