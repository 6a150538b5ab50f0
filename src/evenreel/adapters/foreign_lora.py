"""Somebody's LoRA, of the UNet and of the text encoder, in any of the common formats: understood whole or refused."""

import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evenreel.adapters.lora_names import find_layer, layer_table, per_level, slot_of
from evenreel.adapters.weight_change import WeightChange
from evenreel.backbones import Backbone, safetensors_file
from evenreel.backbones.recognise import FAMILIES, UNREAD_LORAS, USES, Found, recognise, text_width
from evenreel.backbones.safetensors_file import Header, read_header
from evenreel.backbones.sharing import exclusive
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What a folder of a LoRA holds: diffusers' name, and peft's."""
Part = Literal["unet", "text", "text_2"]
_PREFIXES: Mapping[Part, tuple[str, ...]] = {
    "unet": ("unet.", ""),
    "text": ("text_encoder.", ""),
    "text_2": ("text_encoder_2.", ""),
}
"""What the names of peft's settings for a part begin with."""
_UNSUPPORTED = {"lora_bias": "biases of its factors", "fan_in_fan_out": "transposed factors"}
"""Entries of peft's configuration that mean something else than a LoRA."""


@dataclass(frozen=True)
class ForeignLora:
    """A LoRA that was read for a model: each of its tensors has its place there."""

    path: Path
    found: Found
    unet: Mapping[str, WeightChange]
    """Changes of the noise predictor, by path of the layer."""
    text: Mapping[str, WeightChange]
    """Changes of the text encoder, by path of the layer."""
    text_2: Mapping[str, WeightChange]
    """Changes of the second text encoder, where the model has one."""
    sha256: str

    @property
    def changed(self) -> str:
        """How much it changes, in words."""
        parts = [
            (len(self.unet), "layers of the UNet"),
            (len(self.text), "of the text encoder"),
            (len(self.text_2), "of the second text encoder"),
        ]
        return " and ".join(f"{count} {what}" for count, what in parts if count)


def read_lora(path: str | Path, backbone: Backbone) -> ForeignLora:
    """Read a LoRA, from a file or a folder of diffusers' or peft's, for a model.

    Raises: WeightsError for what is not a LoRA, was made for another family of models, or is not understood whole.
    """
    path = lora_file(path)
    header = read_header(path)
    found = recognise(header)
    if found.kind != "lora":
        raise WeightsError(f"{path}: is {found.said}, not a LoRA; {_advice(found)}.")
    algorithm = found.said.split()[1]
    if algorithm in UNREAD_LORAS:
        raise WeightsError(
            f"{path}: {UNREAD_LORAS[algorithm]}, which is not supported; use a LoRA, LoCon, LoHa or LoKr."
        )
    _check_family(header, found, backbone)
    header.check_floats(name for name in header.tensors if not name.endswith(".alpha"))
    settings = _settings(header)
    tables = {part: layer_table(network) for part, network in _networks(backbone).items()}
    slots: dict[tuple[Part, str], dict[str, str]] = {}
    strange: list[str] = []
    for name in header.tensors:
        if name.endswith("position_ids"):  # numbers from 0 on, which transformers kept as a weight until 2023
            continue
        slot = slot_of(name)
        layer = None if slot is None else find_layer(slot.layer, tables, per_level(backbone.unet))
        if slot is None or layer is None or slot.kind in slots.setdefault(layer, {}):  # pyright: ignore[reportArgumentType]
            strange.append(name)
        else:
            slots[layer][slot.kind] = name  # pyright: ignore[reportArgumentType]
    if strange and strange[0].startswith("bundle_emb."):
        raise WeightsError(
            f"{path}: has an embedding inside ({strange[0][:120]}), which is not read; save the LoRA without it, and "
            f"give the embedding in a file of its own as {argument('embedding')}."
        )
    if strange:
        raise WeightsError(
            f"{path}: {len(strange)} of its {len(header.tensors)} tensors change nothing that model {backbone.name} "
            f"has ({strange[0][:120]}); use a LoRA made for this model."
        )
    return _gathered(path, found, slots, settings)


@contextmanager
def loras_attached(backbone: Backbone, loras: Sequence[tuple[ForeignLora, float]]) -> Generator[None]:
    """Change a model's weights by LoRAs, each by its weight, while inside: W + sum of weight * what it adds.

    Weights that change are copied, and the model's own come back afterwards, bit for bit. Raises: WeightsError where a
    change does not fit.
    """
    loras = [(lora, weight) for lora, weight in loras if weight]
    with ExitStack() as stack:
        if not loras:
            yield
            return
        stack.enter_context(exclusive(backbone.unet))
        if any(lora.text or lora.text_2 for lora, _ in loras):
            stack.enter_context(exclusive(backbone.text))
        for part, network in _networks(backbone).items():
            _change(stack, network, [(lora.path, getattr(lora, part), weight) for lora, weight in loras])
        yield


def lora_file(path: str | Path) -> Path:
    """Find the file of a LoRA, which may be named by its folder. Raises: WeightsError where there is none."""
    path = expanded(path)
    if path.is_dir():
        inside = [path / name for name in FILES if (path / name).is_file()]
        if not inside:
            raise WeightsError(f"{path}: holds no {FILES[0]}; name the file of the LoRA.")
        return inside[0]
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such LoRA file; correct the path.")
    return path


def _networks(backbone: Backbone) -> dict[Part, nn.Module]:
    """What LoRAs change of a model."""
    texts = () if backbone.text is None else backbone.text.text_encoders
    names: tuple[Part, ...] = ("text", "text_2")
    return {"unet": backbone.unet, **dict(zip(names, texts, strict=False))}


def _change(
    stack: ExitStack, network: nn.Module, loras: Sequence[tuple[Path, Mapping[str, WeightChange], float]]
) -> None:
    added: dict[tuple[str, str], Tensor] = {}
    with torch.no_grad():
        for path, changes, weight in loras:
            for place, change in changes.items():
                layer: Any = network.get_submodule(place)
                try:
                    deltas = {"weight": change.added(layer.weight)}
                    if getattr(layer, "bias", None) is not None:
                        deltas["bias"] = change.added_to_bias(layer.bias)
                except WeightsError as error:
                    raise WeightsError(f"{path}: {error}; use a LoRA made for this model.") from error
                for name, delta in deltas.items():
                    if delta is None:
                        continue
                    if not bool(torch.isfinite(delta).all()):
                        raise WeightsError(f"{path}: contains NaN or infinite weights; fetch the LoRA again.")
                    key = (place, name)
                    added[key] = added.get(key, 0) + weight * delta
        for (place, name), delta in added.items():
            layer = network.get_submodule(place)
            own: nn.Parameter = getattr(layer, name)
            # Added in single precision: in half, small changes would be lost twice over.
            changed = (own.float() + delta).to(own.dtype)
            stack.callback(setattr, layer, name, own)
            setattr(layer, name, nn.Parameter(changed, requires_grad=False))


def _gathered(
    path: Path, found: Found, slots: Mapping[tuple[Part, str], Mapping[str, str]], settings: Mapping[str, Any]
) -> ForeignLora:
    tensors = safetensors_file.load(path)
    changes: dict[Part, dict[str, WeightChange]] = {"unet": {}, "text": {}, "text_2": {}}
    for (part, place), names in slots.items():
        own = {kind: tensors[name] for kind, name in names.items()}
        try:
            change = WeightChange(place, own)
            if "alpha" not in own:
                change = replace(change, scaling=_scaling(settings, part, place, change.rank))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}; fetch the LoRA again.") from error
        changes[part][place] = change
    return ForeignLora(path, found, **changes, sha256=safetensors_file.sha256(path))


def _check_family(header: Header, found: Found, backbone: Backbone) -> None:
    """Say of a LoRA for another family what it is, not which of its tensors does not fit."""
    usual = f"use one made for model {backbone.name}"
    own = backbone.family
    if found.family not in ("", *((own,) if own else ("sd1", "sd2"))):
        raise WeightsError(f"{header.path}: is {found.said}; {usual}.")
    wanted = backbone.unet.config.cross_attention_dim
    width = _text_width(header)
    if width is not None and isinstance(wanted, int) and width != wanted:
        named = f" for {FAMILIES[found.family]}" if found.family else ""
        raise WeightsError(
            f"{header.path}: is a LoRA{named}, of models whose prompts have {width} features, and those of model "
            f"{backbone.name} have {wanted}; {usual}."
        )


def _text_width(header: Header) -> int | None:
    for name, entry in header.tensors.items():
        slot = slot_of(name)
        into_text = slot is not None and re.search(r"attn2[._]to_[kv]$", slot.layer)
        if into_text and slot is not None and slot.kind in ("down", "hada_w1_b") and len(entry.shape) >= 2:
            return entry.shape[1]
    return text_width(header)


def _settings(header: Header) -> dict[str, Any]:
    """What peft knew of the LoRA: in the file's metadata (diffusers), or in a file beside it (peft).

    Keys have the part in front (`unet.`, `text_encoder.`, `text_encoder_2.`), or none. Raises: WeightsError.
    """
    beside = header.path.with_name("adapter_config.json")
    packed = header.metadata.get("lora_adapter_metadata")
    try:
        if packed is None and header.path.name == FILES[1] and beside.is_file():
            packed = beside.read_text(encoding="utf-8")
        found = json.loads(packed or "{}")
        if not isinstance(found, dict):
            raise TypeError
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{header.path}: its description is damaged; fetch the LoRA again.") from error
    for name, value in found.items():
        plain = name.rpartition(".")[2]
        if plain in _UNSUPPORTED and value:
            raise WeightsError(f"{header.path}: has {_UNSUPPORTED[plain]} ({plain}), which is not supported.")
        if plain == "peft_type" and value != "LORA":
            raise WeightsError(
                f"{header.path}: is a {str(value)[:40]} of peft's, and only LORA is supported."
            )
    return found


def _scaling(settings: Mapping[str, Any], part: Part, path: str, rank: int | None) -> float | None:
    """alpha / rank, or alpha / sqrt(rank), as peft's configuration has it; None where there is none."""
    prefixes = _PREFIXES[part]

    def told(name: str) -> Any:
        return next((settings[p + name] for p in prefixes if settings.get(p + name) is not None), None)

    alpha, pattern = told("lora_alpha"), told("alpha_pattern")
    for key, value in pattern.items() if isinstance(pattern, Mapping) else ():
        if path == key or path.endswith(f".{key}"):
            alpha = value
    if alpha is None or rank is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise WeightsError(f"its lora_alpha is {str(alpha)[:40]}, which is not a number that can be")
    return alpha / (rank**0.5 if told("use_rslora") else rank)


def _advice(found: Found) -> str:
    setting = USES.get(found.kind)
    return "use a LoRA made for this model" if setting is None else f"give it as {argument(setting)}"
