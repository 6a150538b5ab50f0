"""Models by name."""

from pathlib import Path

import torch

from evenreel import registry
from evenreel.backbones import stable_diffusion
from evenreel.backbones.base import Backbone


def load_backbone(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    download: bool = False,
) -> Backbone:
    """Open a model.

    `name` is `mini` (packaged), the name of a plug-in, `plug-in:location`, a folder in diffusers' layout, or
    owner/model on the Hugging Face hub; nothing is fetched unless `download` is set. `device` and `dtype`
    default to a GPU and float16 where there is one, else the CPU and float32. Weights load when they are first used.
    Raises: WeightsError, SettingsError, PluginError.
    """
    family, _, location = name.partition(":")
    # a folder of the user's goes before a plug-in of that name, though not before the packaged model
    is_folder = name != "mini" and Path(name).expanduser().is_dir()
    if not is_folder and family in registry.names(registry.BACKBONES):
        load = registry.find(registry.BACKBONES, family)
        return load(location, device=device, dtype=dtype, download=download)
    return stable_diffusion.load(name, device=device, dtype=dtype, download=download)
