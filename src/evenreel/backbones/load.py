"""Models by name."""

from inspect import signature
from typing import Any

import torch

from evenreel import registry
from evenreel.backbones import families
from evenreel.backbones.base import Backbone
from evenreel.errors import PluginError, SettingsError
from evenreel.files import expanded


def load_backbone(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    download: bool = False,
    **options: Any,
) -> Backbone:
    """Open a model, once for many edits.

    Examples:
        >>> model = evenreel.load_backbone("mini", device="cpu")
        >>> model.native_size
        128

    `name` is `mini` (packaged), the name of a plug-in, `plug-in:location`, a folder in diffusers' layout, a checkpoint
    in one safetensors file, or owner/model on the Hugging Face hub; nothing is fetched unless `download` is set.
    `device` and `dtype` default to a GPU and float16 where there is one, else the CPU and float32. Weights load when
    they are first used. `options` are those of `families.load`: `vae`, `tokenizer`, `clip_skip`,
    `prediction_type`, `preset`. Raises: WeightsError, SettingsError, PluginError.
    """
    family, _, location = name.partition(":")
    # what lies at a path of the user's goes before a plug-in of that name, though not before the packaged model
    is_path = name != "mini" and expanded(name).exists()
    told: dict[str, Any] = {"device": device, "dtype": dtype, "download": download}
    if is_path or family not in registry.names(registry.BACKBONES):
        return families.load(name, **told, **options)
    load = registry.find(registry.BACKBONES, family)
    if foreign := [option for option in options if option not in signature(load).parameters]:
        raise SettingsError(f"model {family} has no setting {', '.join(foreign)}; leave it out.")
    found = load(location, **told, **options)
    if not isinstance(found, Backbone):
        raise PluginError(
            f"the backbone {family!r} gave a {type(found).__name__}, and evenreel.plugins.Backbone is wanted; "
            "derive its class from that one."
        )
    return found
