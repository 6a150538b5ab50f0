"""What callers from Python may hand over, or may have set up, and what must be as expected before work begins."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError
from evenreel.video import Clip


def check_clip(clip: Any) -> None:
    """Refuse what is not a clip of bytes. Raises: SettingsError."""
    if not isinstance(clip, Clip):
        raise SettingsError(
            f"a clip is wanted, got {_described(clip)}; read a file with evenreel.load, or edit it with "
            "evenreel.edit_file."
        )
    frames = clip.frames
    if not isinstance(frames, torch.Tensor) or frames.dtype != torch.uint8:
        raise SettingsError(
            f"frames of a clip must be a tensor of uint8 from 0 to 255, got {_described(frames)}; convert them first."
        )
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.numel():
        raise SettingsError(
            f"frames of a clip must be of shape (frames, height, width, 3), got {tuple(frames.shape)}; rearrange them."
        )
    if len(clip.timestamps) != len(frames):
        raise SettingsError(
            f"a clip must have a timestamp for each frame, got {len(frames)} frames and {len(clip.timestamps)} "
            "timestamps; add or remove some."
        )


def check_backbone(backbone: Any) -> None:
    """Refuse what is not a loaded model. Raises: SettingsError."""
    if backbone is not None and not isinstance(backbone, Backbone):
        raise SettingsError(
            f"backbone must be a model from evenreel.load_backbone, got {_described(backbone)}; a name goes to model."
        )


@contextmanager
def own_numbers() -> Generator[None]:
    """Compute as the settings say, whatever modes of PyTorch the caller is in.

    Inference mode and autocast are left while inside. Raises: SettingsError where PyTorch's defaults, which belong to
    the whole process, are others than its own.
    """
    if torch.get_default_dtype() != torch.float32:
        raise SettingsError(
            f"PyTorch's default number type is {torch.get_default_dtype()}, and float32 is needed; call "
            "torch.set_default_dtype(torch.float32) first."
        )
    if torch.get_default_device().type != "cpu":
        raise SettingsError(
            f"PyTorch's default device is {torch.get_default_device()}, and cpu is needed; "
            "name the device as a setting."
        )
    with (
        torch.inference_mode(False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    return f"{value!r}"[:60] if isinstance(value, str) else f"a {type(value).__name__}"
