"""What motion modules look like, from a description in diffusers' form; and weights put into them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from evenreel.errors import WeightsError
from evenreel.motion.modules import MotionConfig, MotionModules

_LEVELS = ("motion_layers_per_block", "motion_transformer_layers_per_block", "motion_num_attention_heads")
_LARGEST = 1024
"""More levels, layers, heads or frames than this are a damaged file."""

DEFAULTS: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "motion_layers_per_block": 2,
    "motion_transformer_layers_per_block": 1,
    "motion_mid_block_layers_per_block": 1,
    "motion_transformer_layers_per_mid_block": 1,
    "motion_num_attention_heads": 8,
    "motion_norm_num_groups": 32,
    "motion_max_seq_length": 32,
    "use_motion_mid_block": True,
}
"""Of diffusers' `MotionAdapter`."""


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def config_of(path: Path, entries: Mapping[str, Any]) -> MotionConfig:
    """Return the layout that a config.json of diffusers' `MotionAdapter` describes. Raises: WeightsError."""
    if entries.get("conv_in_channels"):
        raise WeightsError(f"{path}: modules that bring an input layer of their own (PIA) are not supported.")
    entries = {**DEFAULTS, **entries}

    def numbers(name: str, length: int | None = None) -> tuple[int, ...]:
        value: Any = entries[name]
        if isinstance(value, int) and length is not None:
            value = [value] * length
        if not _is_list(value) or len(value) != (length or len(value)) or not 1 <= len(value) <= 16:
            raise WeightsError(f"{path}: {name} must be {length or 'some'} numbers, got {entries[name]!r}.")
        return tuple(number(name, each) for each in value)

    def number(name: str, value: Any, largest: int = _LARGEST) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            raise WeightsError(f"{path}: {name} must be from 1 to {largest}, got {value!r}.")
        return value

    widths: Any = entries["block_out_channels"]
    if not _is_list(widths) or not 1 <= len(widths) <= 16:
        raise WeightsError(f"{path}: block_out_channels must be a list of numbers, got {widths!r}.")
    widths = tuple(number("block_out_channels", width, 2**16) for width in widths)
    levels = {name: numbers(name, len(widths)) for name in _LEVELS}
    groups = number("motion_norm_num_groups", entries["motion_norm_num_groups"])
    for width, heads in zip(widths, levels["motion_num_attention_heads"], strict=True):
        if width % heads or width % groups:
            raise WeightsError(
                f"{path}: {width} channels cannot be cut into {heads} heads and {groups} groups."
            )
    # Of SD 1.x's kind are only UNets with one attention in the middle.
    number("motion_mid_block_layers_per_block", entries["motion_mid_block_layers_per_block"], 1)
    return MotionConfig(
        block_out_channels=widths,
        **levels,
        motion_norm_num_groups=groups,
        motion_max_seq_length=number("motion_max_seq_length", entries["motion_max_seq_length"]),
        use_motion_mid_block=entries["use_motion_mid_block"] is True,
        motion_transformer_layers_per_mid_block=numbers("motion_transformer_layers_per_mid_block", 1)[0],
    )


def filled(path: Path, config: MotionConfig, tensors: Mapping[str, Tensor], spoken_of: str) -> MotionModules:
    """Return modules that hold `tensors`, in float32 on the CPU, ready for inference.

    `spoken_of` is what promised them, for messages about `path`. Raises: WeightsError unless all are there and fit.
    """
    with torch.device("meta"):
        modules = MotionModules(config)
    own = modules.state_dict()
    if different := sorted(own.keys() ^ tensors.keys()):
        raise WeightsError(
            f"{path}: does not hold the weights that {spoken_of} ({different[0]}, and "
            f"{len(different) - 1} more differ); fetch the motion modules again."
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape or not tensors[name].is_floating_point():
            raise WeightsError(
                f"{path}: {name} must be numbers of size {tuple(tensor.shape)}, got "
                f"{tuple(tensors[name].shape)}; fetch the motion modules again."
            )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise WeightsError(f"{path}: contains NaN or infinite weights; fetch the motion modules again.")
    with torch.inference_mode(
        False
    ):  # weights that are made in inference mode could never take part in a gradient
        full = {name: tensor.clone().float() for name, tensor in tensors.items()}
    modules.load_state_dict(full, assign=True)
    return modules.eval().requires_grad_(False)
