"""Files of LyCORIS change weights as their equations say."""

import pytest
import torch

from adapters.lora_writing import (
    layers_of,
    save,
)
from closeness import assert_close
from evenreel.adapters.foreign_lora import loras_attached, read_lora


def lycoris(model, path, tensors_of):
    """A file in which one layer of each kind is changed, and what it adds to weights by path."""
    layers = {**layers_of(model.unet, (".attn1.to_q",)), **layers_of(model.unet, (".conv1",))}
    tensors, wanted = {}, {}
    generator = torch.Generator().manual_seed(0)
    for layer, module in layers.items():
        own, wanted[layer] = tensors_of(
            module.weight.shape, lambda *s: 0.2 * torch.randn(*s, generator=generator)
        )
        tensors |= {f"lora_unet_{layer.replace('.', '_')}.{name}": tensor for name, tensor in own.items()}
    return save(tensors, path), wanted


def loha(shape, draw):
    outputs, inputs, *kernel = shape
    area = kernel[0] * kernel[1] if kernel else 1
    a, b, c, d = draw(outputs, 4), draw(4, inputs * area), draw(outputs, 4), draw(4, inputs * area)
    delta = (2.0 / 4) * ((a @ b) * (c @ d)).reshape(shape)
    names = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(2.0)}
    return names, delta


def loha_with_core(shape, draw):
    outputs, inputs, *kernel = shape
    if not kernel:
        return loha(shape, draw)
    parts = [(draw(4, 4, *kernel), draw(4, outputs), draw(4, inputs)) for _ in range(2)]
    halves = [torch.einsum("ijkl,jr,ip->prkl", core, inner, outer) for core, outer, inner in parts]
    names = {}
    for number, (core, outer, inner) in enumerate(parts, start=1):
        names |= {f"hada_t{number}": core, f"hada_w{number}_a": outer, f"hada_w{number}_b": inner}
    return {**names, "alpha": torch.tensor(2.0)}, (2.0 / 4) * halves[0] * halves[1]


def lokr(shape, draw):
    outputs, inputs, *kernel = shape
    first, second = draw(4, 2), draw(outputs // 4, inputs // 2, *kernel)
    whole = torch.kron(first.reshape(4, 2, *[1] * len(kernel)), second)
    return {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(2.0)}, whole  # alpha is not used then


def lokr_of_factors(shape, draw):
    outputs, inputs, *kernel = shape
    area = kernel[0] * kernel[1] if kernel else 1
    first, a, b = draw(4, 2), draw(outputs // 4, 3), draw(3, inputs // 2 * area)
    second = (a @ b).reshape(outputs // 4, inputs // 2, *kernel)
    whole = (6.0 / 3) * torch.kron(first.reshape(4, 2, *[1] * len(kernel)), second)
    return {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(6.0)}, whole


def locon_with_core(shape, draw):
    outputs, inputs, *kernel = shape
    sides = kernel or [1, 1]
    down, mid, up = draw(4, inputs, 1, 1), draw(4, 4, *sides), draw(outputs, 4, 1, 1)
    whole = torch.einsum("op,pqkl,qi->oikl", up[..., 0, 0], mid, down[..., 0, 0]).reshape(shape)
    names = {
        "lora_down.weight": down,
        "lora_mid.weight": mid,
        "lora_up.weight": up,
        "alpha": torch.tensor(2.0),
    }
    return names, (2.0 / 4) * whole


def with_scalar(shape, draw):
    """LyCORIS can train a number beside the factors."""
    names, delta = lokr(shape, draw)
    return {**names, "scalar": torch.tensor(0.25)}, 0.25 * delta


def difference(shape, draw):
    delta = draw(*shape)
    return {"diff": delta}, delta


@pytest.mark.parametrize(
    "kind", [loha, loha_with_core, lokr, lokr_of_factors, locon_with_core, with_scalar, difference]
)
def test_lycoris_adds_what_its_equations_say(model, tmp_path, kind):
    path, wanted = lycoris(model, tmp_path / "a.safetensors", kind)
    before = {layer: model.unet.get_submodule(layer).weight for layer in wanted}
    with loras_attached(model, [(read_lora(path, model), 0.5)]):
        for layer, delta in wanted.items():
            added = model.unet.get_submodule(layer).weight - before[layer]
            assert_close(added, 0.5 * delta)
    assert all(model.unet.get_submodule(layer).weight is weight for layer, weight in before.items())
