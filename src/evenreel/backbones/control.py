"""ControlNets: a second network shows the first one where things are (arXiv:2302.05543)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from evenreel.backbones.base import Backbone, Residuals
from evenreel.backbones.folder import ControlFolder, find, forbid_remote_code
from evenreel.backbones.weights import load_part
from evenreel.errors import WeightsError
from evenreel.types import Latents, PromptRows

ConditionMaps = UInt8[Tensor, "frames _ height width"]
"""Condition pictures, one for each frame, of one channel or of three (RGB), 8 times the latents' size."""
_SHARED = ("in_channels", "block_out_channels", "down_block_types", "layers_per_block", "cross_attention_dim")
"""What a ControlNet's configuration has in common with that of its UNet."""


@dataclass(frozen=True, kw_only=True)
class ControlNet:
    """A ControlNet that is loaded and fits its UNet."""

    net: Any
    """A diffusers ControlNetModel."""
    fingerprint: str
    """Hash of its weights."""

    def showing(self, maps: ConditionMaps, scale: float = 1.0) -> "Control":
        """The control of one clip."""
        return Control(net=self.net, maps=maps, scale=scale)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A ControlNet with the condition of every frame of a clip."""

    net: Any
    """A diffusers ControlNetModel: hosts attach to its layers."""
    maps: ConditionMaps
    """What it is shown."""
    scale: float = 1.0
    """How much of it counts; 0 is as if it were not there."""

    def residuals(
        self, latents: Latents, frames: Sequence[int], timestep: int, prompt_embeds: PromptRows
    ) -> Residuals:
        """What to add for some frames; `latents` holds them once for each branch, the branch outermost.

        Each row of `prompt_embeds` serves as many consecutive latents.
        """
        weight = next(self.net.parameters())
        maps = self.maps[list(frames)].to(weight.device).to(weight.dtype) / 255
        maps = maps.expand(-1, 3, -1, -1).repeat(len(latents) // len(frames), 1, 1, 1)
        repeated = prompt_embeds.repeat_interleave(len(latents) // len(prompt_embeds), dim=0)
        down, mid = self.net(
            latents.to(weight.dtype),
            timestep,
            encoder_hidden_states=repeated.to(weight.dtype),
            controlnet_cond=maps,
            conditioning_scale=self.scale,
            return_dict=False,
        )
        return Residuals(tuple(down), mid)


def load_control(name: str, backbone: Backbone, *, download: bool = False) -> ControlNet:
    """Open a ControlNet for a model, with its device and number type.

    `name` is a folder in diffusers' layout, or owner/model on the Hugging Face hub; nothing is fetched unless
    `download` is set. Raises: WeightsError when it is absent, damaged, unsafe, or made for another kind of model.
    """
    forbid_remote_code()
    folder = find(name, download=download, kind=ControlFolder)
    folder.check()
    config, unet = folder.config(""), backbone.unet.config
    for key in _SHARED:
        ours, theirs = _plain(config.get(key)), _plain(unet.get(key))
        if key in config and ours != theirs:
            raise WeightsError(
                f"{name}: this ControlNet was made for another model ({key} is {ours}, the model's is {theirs}); "
                "use one made for it."
            )
    if config.get("conditioning_channels", 3) != 3:
        raise WeightsError(
            f"{name}: only ControlNets that are shown pictures of three channels are supported."
        )
    from diffusers import ControlNetModel

    net = load_part(folder, "", ControlNetModel, backbone.device, backbone.dtype)
    return ControlNet(net=net, fingerprint=folder.fingerprint)


def fingerprint_of(name: str) -> str:
    """Hash of a ControlNet's weights, without loading them. Raises: WeightsError where there are none."""
    return find(name, kind=ControlFolder).fingerprint


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
