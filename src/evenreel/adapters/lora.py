"""Low-rank changes of a UNet's attention (LoRA, arXiv:2106.09685; FTC of the GE-Adapter, arXiv:2501.04606), by peft.

What is attached stands in the place of layers and changes none of them, so taking it away leaves no trace.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evenreel.adapters.settings import LoraSettings
from evenreel.backbones.sharing import exclusive
from evenreel.errors import SettingsError, WeightsError

PROJECTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")
"""The layers of an attention that are changed."""
_NAME = "evenreel"
_FACTORS = ("lora_A", "lora_B")


def targets(unet: nn.Module, scope: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return paths of the attention layers that a scope names, in the model's order. Raises: SettingsError for none."""
    paths = [name for name, _ in unet.named_modules() if name.endswith(PROJECTIONS)]
    if scope == "all":
        return tuple(paths)
    patterns = ("down_blocks.*",) if scope == "down" else tuple(scope)
    found = {pattern: [path for path in paths if fnmatchcase(path, pattern)] for pattern in patterns}
    for pattern, matching in found.items():
        if not matching:
            example = f", for example {paths[0]}" if paths else "; it has none"
            raise SettingsError(f"lora scope {pattern!r} matches no attention layer of this model{example}.")
    wanted = {path for matching in found.values() for path in matching}
    return tuple(path for path in paths if path in wanted)


class Lora(nn.Module):
    """The factors of the changes: for a layer W of (out, in), A of (rank, in) and B of (out, rank) make W + s B A."""

    def __init__(
        self,
        settings: LoraSettings,
        shapes: Mapping[str, tuple[int, int]],
        generator: torch.Generator | None = None,
    ) -> None:
        """Factors for layers of `shapes` (out, in), by path. A is drawn with `generator`, B is zero: no change yet."""
        super().__init__()
        self.settings, self.shapes = settings, dict(shapes)
        for path, (outputs, inputs) in self.shapes.items():
            first = torch.empty(settings.rank, inputs)
            # As peft does: uniform, of variance 1 / (3 inputs).
            nn.init.kaiming_uniform_(first, a=5**0.5, generator=generator)
            self.register_parameter(_key(path, "lora_A"), nn.Parameter(first))
            self.register_parameter(_key(path, "lora_B"), nn.Parameter(torch.zeros(outputs, settings.rank)))

    @classmethod
    def of(cls, unet: nn.Module, settings: LoraSettings, generator: torch.Generator | None = None) -> "Lora":
        """Return factors for the layers of a UNet that the settings name."""
        return cls(settings, shapes_of(unet, targets(unet, settings.scope)), generator)

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def factors(self, path: str) -> tuple[nn.Parameter, nn.Parameter]:
        """Return the matrices A and B of a layer."""
        first, second = (self.get_parameter(_key(path, factor)) for factor in _FACTORS)
        return first, second

    def tensors(self) -> dict[str, Tensor]:
        """Return all factors by name: the layer's path, then `.lora_A.weight` or `.lora_B.weight`."""
        return {
            f"{path}.{factor}.weight": tensor.detach()
            for path in self.shapes
            for factor, tensor in zip(_FACTORS, self.factors(path), strict=True)
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take factors over, named as `tensors` does. Raises: WeightsError unless all fit, and none is left over."""
        own = self.tensors()
        if different := sorted(own.keys() ^ tensors.keys()):
            raise WeightsError(
                f"the LoRA weights are for other layers ({different[0]}, and {len(different) - 1} more differ)."
            )
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise WeightsError(
                    f"the LoRA weight {name} must be of size {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}."
                )
            tensor.copy_(tensors[name])

    def change(self, path: str) -> Tensor:
        """Return what is added to a layer's weight at scale 1."""
        first, second = self.factors(path)
        return self.settings.scaling * (second @ first)


class _Place(NamedTuple):
    """Where a layer sits in a model."""

    parent: nn.Module
    name: str
    layer: nn.Module

    def put(self, layer: nn.Module) -> None:
        setattr(self.parent, self.name, layer)


class LoraSwitch:
    """Layers with their changes and layers without, to be put in place in turn. It begins with the changes."""

    def __init__(self, places: Sequence[_Place], changed: Sequence[nn.Module]) -> None:
        self._places, self._changed = places, changed
        self.is_on = False
        self.turn(on=True)

    def turn(self, *, on: bool) -> None:
        """Change the model, or leave it as it is without an adapter: its own layers, bit for bit."""
        if on != self.is_on:
            for place, changed in zip(self._places, self._changed, strict=True):
                place.put(changed if on else place.layer)
            self.is_on = on


@contextmanager
def lora_attached(
    unet: nn.Module, lora: Lora, *, scale: float = 1.0, fused: bool = False, trainable: bool = False
) -> Generator[LoraSwitch]:
    """Change a UNet's layers by `scale` times the LoRA while inside; other adapters in the model stay at work.

    `fused` adds the product of the factors to (copies of) the weights, which costs their memory but no time.
    `trainable` lets gradients reach the parameters of `lora`; without it, they are copied in the model's number type.
    Raises: WeightsError when the model lacks a layer or has one of another size, SettingsError for layers that cannot
    be changed.
    """
    if fused and trainable:
        raise SettingsError("a LoRA that is trained cannot be fused; leave out one of them.")
    with exclusive(unet):
        places = [_place(unet, path) for path in lora.shapes]
        for path, place in zip(lora.shapes, places, strict=True):
            _check(path, place, lora.shapes[path], fused=fused)
        if fused:
            changed = [
                _fused(place.layer, scale * lora.change(path))
                for path, place in zip(lora.shapes, places, strict=True)
            ]
        else:
            changed = _wrapped(places, lora, scale, trainable=trainable)
        switch = LoraSwitch(places, changed)
        try:
            yield switch
        finally:
            switch.turn(on=False)


def shapes_of(unet: nn.Module, paths: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Return (out, in) of linear layers, by path."""
    layers = {path: _place(unet, path).layer for path in paths}
    return {
        path: (_size(layer, "out_features"), _size(layer, "in_features")) for path, layer in layers.items()
    }


def _size(layer: nn.Module, name: str) -> int:
    size = getattr(layer, name, None)
    if not isinstance(size, int):
        raise SettingsError(f"lora needs linear layers, got {type(layer).__name__}.")
    return size


def _key(path: str, factor: str) -> str:
    # a parameter's own name must have no dots
    return f"{path}.{factor}".replace(".", "/")


def _place(unet: nn.Module, path: str) -> _Place:
    """Of a layer itself, also where it sits inside somebody else's LoRA."""
    above, _, name = path.rpartition(".")
    try:
        parent = unet.get_submodule(above)
        layer = parent.get_submodule(name)
    except AttributeError as error:
        raise WeightsError(
            f"the adapter changes a layer that this model does not have ({path}); it was made for another."
        ) from error
    if getattr(unet.get_submodule(above.removesuffix(".to_out")), "fused_projections", False):
        raise SettingsError(
            "lora needs separate query, key and value layers; unfuse the model's projections."
        )
    while hasattr(layer, "base_layer"):
        parent, name, layer = layer, "base_layer", layer.get_submodule("base_layer")
    return _Place(parent, name, layer)


def _check(path: str, place: _Place, shape: tuple[int, int], *, fused: bool) -> None:
    found = (_size(place.layer, "out_features"), _size(place.layer, "in_features"))
    if found != shape:
        raise WeightsError(
            f"the adapter changes {path} of size {shape}, but this model's is {found}; it was made for another."
        )
    if fused and type(place.layer) is not nn.Linear:
        raise SettingsError(
            f"{path} is a {type(place.layer).__name__}, into which nothing can be fused; use the adapter unfused."
        )


def _fused(layer: Any, change: Tensor) -> nn.Linear:
    weight: Tensor = layer.weight
    fused = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    # Added in single precision at least: in half, small changes would be lost twice over.
    at_least_single = torch.promote_types(weight.dtype, torch.float32)
    added = weight.detach().to(at_least_single) + change.detach().to(weight.device, at_least_single)
    fused.weight = nn.Parameter(added.to(weight.dtype), requires_grad=False)
    fused.bias = layer.bias
    return fused.train(layer.training)


def _wrapped(places: list[_Place], lora: Lora, scale: float, *, trainable: bool) -> list[nn.Module]:
    """peft's layers around those of the model, which itself is not touched: they are made in a box of their own."""
    from peft import LoraConfig, inject_adapter_in_model

    box = nn.Module()
    for index, place in enumerate(places):
        box.add_module(f"layer{index}", place.layer)
    rank = lora.settings.rank
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=r"layer\d+", init_lora_weights=False)
    needed = [parameter.requires_grad for parameter in box.parameters()]
    parameters = list(box.parameters())
    # Without memory of their own until they get ours; nothing is drawn from the global generator.
    inject_adapter_in_model(config, box, _NAME, low_cpu_mem_usage=True)
    for parameter, need in zip(parameters, needed, strict=True):  # peft freezes all but its own
        parameter.requires_grad_(need)
    wrapped: list[nn.Module] = []
    for index, (path, place) in enumerate(zip(lora.shapes, places, strict=True)):
        layer: Any = box.get_submodule(f"layer{index}")
        for part, factor in zip((layer.lora_A, layer.lora_B), lora.factors(path), strict=True):
            if not trainable:
                like = next(place.layer.parameters())
                dtype = like.dtype if like.is_floating_point() else None
                factor = nn.Parameter(factor.detach().to(like.device, dtype), requires_grad=False)
            part[_NAME].weight = factor
        layer.set_scale(_NAME, scale * lora.settings.scaling)
        wrapped.append(layer.train(place.layer.training))
    return wrapped
