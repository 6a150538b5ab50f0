"""ControlNets: a second network shows the first one where things are (arXiv:2302.05543)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from evenreel.backbones import configs, mini
from evenreel.backbones.base import Backbone, Residuals
from evenreel.backbones.conditioning import conditions
from evenreel.backbones.folder import ControlFolder
from evenreel.backbones.hub import find, forbid_remote_code
from evenreel.backbones.recognise import FAMILIES, WIDTHS, recognise, text_width
from evenreel.backbones.safetensors_file import Header, read_header
from evenreel.backbones.single_file import FilePart
from evenreel.backbones.weights import FolderPart, Part
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded
from evenreel.types import Latents, PromptRows

ConditionMaps = UInt8[Tensor, "frames _ height width"]
"""Condition pictures, one for each frame, of one channel or of three (RGB), 8 times the latents' size."""
_SHARED = (
    "addition_embed_type",
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
)
"""What a ControlNet's configuration has in common with that of its UNet."""


@dataclass(frozen=True, kw_only=True)
class ControlNet:
    """A ControlNet that is loaded and fits its UNet."""

    net: Any
    """A diffusers ControlNetModel."""
    fingerprint: str
    """Hash of its weights and its configuration."""

    def showing(self, maps: ConditionMaps, scale: float = 1.0) -> "Control":
        """Return the control of one clip."""
        return Control(net=self.net, maps=maps, scale=scale)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A ControlNet with the condition of every frame of a clip."""

    net: Any
    """A diffusers ControlNetModel."""
    maps: ConditionMaps
    """What it is shown."""
    scale: float = 1.0
    """How much of it counts; 0 is as if it were not there."""

    @property
    def nets(self) -> tuple[Any, ...]:
        """The network."""
        return (self.net,)

    def part(self, frames: slice) -> "Control":
        """Return the control of some frames, counted from the first of them."""
        return replace(self, maps=self.maps[frames])

    def residuals(
        self, latents: Latents, frames: Sequence[int], timestep: int, prompt_embeds: PromptRows
    ) -> Residuals:
        """Return what to add for some frames; `latents` holds them once for each branch, the branch outermost.

        Each row of `prompt_embeds` serves as many consecutive latents.
        """
        weight = next(self.net.parameters())
        maps = self.maps[list(frames)].to(weight.device).to(weight.dtype) / 255
        maps = maps.expand(-1, 3, -1, -1).repeat(len(latents) // len(frames), 1, 1, 1)
        repeated = prompt_embeds.repeat_interleave(len(latents) // len(prompt_embeds), dim=0)
        down, mid = self.net(
            latents.to(weight.dtype),
            timestep,
            **conditions(self.net, repeated, (maps.shape[-2], maps.shape[-1]), weight.dtype),
            controlnet_cond=maps,
            conditioning_scale=self.scale,
            return_dict=False,
        )
        return Residuals(tuple(down), mid)


@dataclass(frozen=True)
class Controls:
    """Several ControlNets at once: what they add is added up."""

    controls: tuple[Control, ...]

    @property
    def nets(self) -> tuple[Any, ...]:
        """Diffusers' ControlNetModels: hosts attach to their layers."""
        return tuple(control.net for control in self.controls)

    def part(self, frames: slice) -> "Controls":
        """Return the control of some frames, counted from the first of them."""
        return Controls(tuple(one.part(frames) for one in self.controls))

    def residuals(
        self, latents: Latents, frames: Sequence[int], timestep: int, prompt_embeds: PromptRows
    ) -> Residuals:
        """Return what to add for some frames; see `Control.residuals`."""
        found = [control.residuals(latents, frames, timestep, prompt_embeds) for control in self.controls]
        down = zip(*(residuals.down for residuals in found), strict=True)
        return Residuals(tuple(map(_added, down)), _added([residuals.mid for residuals in found]))


AnyControl = Control | Controls
"""One ControlNet or several, with the condition of every frame of a clip."""


def load_control(name: str, backbone: Backbone, *, download: bool = False) -> ControlNet:
    """Open a ControlNet for a model, with its device and number type.

    `name` is a folder in diffusers' layout, one safetensors file, or owner/model on the Hugging Face hub; nothing is
    fetched unless `download` is set. Raises: WeightsError when it is absent, damaged, unsafe, or made for another kind
    of model.
    """
    forbid_remote_code()
    part = _part(name, backbone, download=download)
    config, unet = part.config, backbone.unet.config
    for key in _SHARED:
        ours, theirs = _plain(config.get(key)), _plain(unet.get(key))
        if key in config and ours != theirs:
            raise WeightsError(
                f"{name}: this ControlNet was made for another model{_family_of(config)} ({key} is {ours}, the model's "
                f"is {theirs}); use one made for it."
            )
    if config.get("conditioning_channels", 3) != 3:
        raise WeightsError(
            f"{name}: only ControlNets that are shown pictures of three channels are supported."
        )
    from diffusers import ControlNetModel

    net = part.load(ControlNetModel, backbone.device, backbone.dtype)
    return ControlNet(net=net, fingerprint=_fingerprint(part))


def _family_of(config: Mapping[str, Any]) -> str:
    """Of which family a ControlNet's model is, in words, where its configuration tells."""
    width = config.get("cross_attention_dim")  # as the file has it: also a list, or what cannot be
    known = WIDTHS.get(width, "") if isinstance(width, int) else ""
    family = "sdxl" if config.get("addition_embed_type") else known
    return f", {FAMILIES[family]}" if family else ""


def is_control(name: str, backbone: Backbone, fingerprint: str) -> bool:
    """Tell whether a ControlNet is that of a fingerprint, without loading it. Raises: WeightsError where there is
    none."""
    part = _part(name, backbone)
    # earlier records hold the hash of the weights alone
    earlier = part.folder.weights_fingerprint if isinstance(part, FolderPart) else None
    return fingerprint in (_fingerprint(part), earlier)


def _part(name: str, backbone: Backbone, *, download: bool = False) -> Part:
    path = _packaged() if name in mini.CONTROLS else expanded(name)
    if path.is_file():
        header = read_header(path)
        beside = path.with_name("config.json")
        if "controlnet_cond_embedding.conv_in.weight" not in header.tensors or not beside.is_file():
            return _in_file(header, backbone)
        path = path.parent
    folder = find(str(path) if path.is_dir() else name, download=download, kind=ControlFolder)
    folder.check()
    return FolderPart(folder, "")


def _packaged() -> Path:
    if not mini.CONTROL.is_dir():
        raise WeightsError(
            "no ControlNet is packaged for mini at present; train one with `evenreel train mini --parts control --from "
            "mini`, and name its folder (docs/training.md)."
        )
    return mini.CONTROL


def _in_file(header: Header, backbone: Backbone) -> FilePart:
    """A ControlNet in one file: what its file does not say of its layout is that of the UNet."""
    from diffusers import ControlNetModel

    found = recognise(header)
    if found.kind != "control":
        raise WeightsError(
            f"{header.path}: is {found.said}; give {ControlFolder.wanted} as {argument('control')}."
        )
    prefix = "control_model." if any(name.startswith("control_model.") for name in header.tensors) else ""
    names = tuple(name for name in header.tensors if name.startswith(prefix))
    header.check_floats(names)
    _check_made_for(header, prefix, backbone)
    settings = {"conditioning_embedding_out_channels": _hint_channels(header, prefix)}
    import torch

    with torch.device("meta"):
        net: Any = ControlNetModel.from_unet(backbone.unet, load_weights_from_unet=False, **settings)
    config = {key: value for key, value in dict(net.config).items() if not key.startswith("_")}
    configs.checked(configs.ControlNetSchema, _as_json(config), header.path)
    return FilePart(
        header,
        "ControlNet",
        "ControlNetModel",
        config,
        names,
        lambda tensors: _converted(tensors, prefix, config),
    )


def _converted(tensors: dict[str, Tensor], prefix: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by diffusers' names; what embeds pooled text and sizes, diffusers leaves out."""
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    found = convert_controlnet_checkpoint(tensors, config)
    for number, layer in ((0, "linear_1"), (2, "linear_2")):
        for end in ("weight", "bias"):
            if (tensor := tensors.get(f"{prefix}label_emb.0.{number}.{end}")) is not None:
                found[f"add_embedding.{layer}.{end}"] = tensor
    return found


def _check_made_for(header: Header, prefix: str, backbone: Backbone) -> None:
    """Say of a ControlNet for another kind of model what it is, not which of its weights does not fit."""
    width = text_width(header, prefix)
    wanted = backbone.unet.config.cross_attention_dim
    family = recognise(header).family
    if width is not None and width != wanted:
        named = f" for {FAMILIES[family]}" if family else ""
        raise WeightsError(
            f"{header.path}: is a ControlNet{named}, whose prompts have {width} features; those of model "
            f"{backbone.name} have {wanted}, so use a ControlNet made for it."
        )


def _hint_channels(header: Header, prefix: str) -> list[int]:
    """Channels of the layers that read the picture: 16, 32, 96, 256 in all that are published."""
    if header.shape("controlnet_cond_embedding.conv_in.weight"):
        names = [
            "controlnet_cond_embedding.conv_in.weight",
            *(f"controlnet_cond_embedding.blocks.{2 * i + 1}.weight" for i in range(7)),
        ]
    else:
        names = [f"{prefix}input_hint_block.{4 * i}.weight" for i in range(4)]
    shapes = [shape for name in names if (shape := header.shape(name)) is not None and len(shape) == 4]
    return [shape[0] for shape in shapes]


def _fingerprint(part: Part) -> str:
    described = json.dumps(_as_json(part.config), sort_keys=True)
    return hashlib.sha256(f"{part.fingerprint}\n{described}\n".encode()).hexdigest()


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _added(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
