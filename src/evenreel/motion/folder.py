"""Motion modules as a folder in the layout of diffusers' `MotionAdapter`: config.json and safetensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from evenreel.backbones import safetensors_file
from evenreel.errors import OutputError, WeightsError
from evenreel.motion.modules import MotionConfig, MotionModules

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
"""Names of the weights, in the order in which they are looked for."""
_CLASS = "MotionAdapter"
_LEVELS = ("motion_layers_per_block", "motion_transformer_layers_per_block", "motion_num_attention_heads")
_LARGEST = 1024
"""More levels, layers, heads or frames than this are a damaged file."""


def save_motion(modules: MotionModules, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write modules so that diffusers' `MotionAdapter.from_pretrained` and `load_motion` read them.

    Float16 weights get the name of diffusers' variant. Nothing partial is left under a final name.
    Returns the folder. Raises: OutputError.
    """
    folder = Path(folder)
    variant = dtype == torch.float16
    tensors = {
        name: value.detach().to("cpu", dtype).contiguous() for name, value in modules.state_dict().items()
    }
    config = {"_class_name": _CLASS, **modules.config.to_json(), "conv_in_channels": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS[not variant]).unlink(missing_ok=True)
        _replace(
            folder / CONFIG, lambda path: path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        )
        _replace(folder / WEIGHTS[variant], lambda path: save_file(tensors, path, {"format": "pt"}))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}).") from error
    return folder


def load_motion(folder: str | Path) -> MotionModules:
    """Read modules from a folder of this layout, in float32 on the CPU, ready for inference.

    Raises: WeightsError when something is absent, damaged, or not what this package can use.
    """
    folder = Path(folder)
    config = _config(folder / CONFIG)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder}: holds no {WEIGHTS[0]}; fetch the motion modules as safetensors.")
    tensors = safetensors_file.load(weights)
    with torch.device("meta"):
        modules = MotionModules(config)
    own = modules.state_dict()
    if different := sorted(own.keys() ^ tensors.keys()):
        raise WeightsError(
            f"{weights}: does not hold the weights that {CONFIG} speaks of ({different[0]}, and "
            f"{len(different) - 1} more differ); fetch the motion modules again."
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape or not tensors[name].is_floating_point():
            raise WeightsError(
                f"{weights}: {name} must be numbers of size {tuple(tensor.shape)}, got "
                f"{tuple(tensors[name].shape)}; fetch the motion modules again."
            )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise WeightsError(f"{weights}: contains NaN or infinite weights; fetch the motion modules again.")
    with torch.inference_mode(
        False
    ):  # weights that are made in inference mode could never take part in a gradient
        full: dict[str, Tensor] = {name: tensor.clone().float() for name, tensor in tensors.items()}
    modules.load_state_dict(full, assign=True)
    return modules.eval().requires_grad_(False)


def _config(path: Path) -> MotionConfig:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        found = entries.get("_class_name", _CLASS)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); motion modules need it.") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: is damaged; fetch the motion modules again.") from error
    if found != _CLASS:
        raise WeightsError(f"{path}: describes a {found}, not motion modules ({_CLASS}).")
    if entries.get("conv_in_channels"):
        raise WeightsError(f"{path}: modules that bring an input layer of their own (PIA) are not supported.")
    return _config_of(path, {**_DEFAULTS, **entries})


_DEFAULTS: dict[str, Any] = {
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


def _config_of(path: Path, entries: dict[str, Any]) -> MotionConfig:
    def numbers(name: str, length: int | None = None) -> tuple[int, ...]:
        value = entries[name]
        if isinstance(value, int) and length is not None:
            value = [value] * length
        if not isinstance(value, list) or len(value) != (length or len(value)) or not 1 <= len(value) <= 16:
            raise WeightsError(f"{path}: {name} must be {length or 'some'} numbers, got {entries[name]!r}.")
        return tuple(number(name, each) for each in value)

    def number(name: str, value: Any, largest: int = _LARGEST) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            raise WeightsError(f"{path}: {name} must be from 1 to {largest}, got {value!r}.")
        return value

    widths = entries["block_out_channels"]
    if not isinstance(widths, list) or not 1 <= len(widths) <= 16:
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


def _replace(path: Path, write: Any) -> None:
    """Write aside and rename, so that a file under this name is always whole."""
    aside = path.with_name(path.name + ".part")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
