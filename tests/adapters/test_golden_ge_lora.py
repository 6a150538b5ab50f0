"""One training step of LoRA against recorded tensors (golden/ge/README.md, part f)."""

import pytest
import torch

from closeness import difference
from evenreel.adapters.features import features_collected
from evenreel.adapters.lora import Lora, lora_attached
from evenreel.adapters.settings import LoraSettings
from evenreel.adapters.temporal_loss import published_loss
from evenreel.backbones import load_backbone
from hosts import golden

PREDICTION, LOSS, GRADIENTS, UPDATED = 1e-5, 1e-6, 1e-4, 2e-6
SCOPES = {"all": "all", "down_blocks": "down"}

steps = pytest.mark.parametrize("recording", golden.cases("ge", "all.A0"))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


def ours(name):
    return name.replace(".default.", ".")


def lora_of(backbone, recording, layers, start):
    """The layers' factors at the start: as published (B is zero), or with a recorded B."""
    settings = LoraSettings(
        rank=recording.meta["rank"], alpha=float(recording.meta["alpha"]), scope=SCOPES[layers]
    )
    lora = Lora.of(backbone.unet, settings)
    names = recording.meta[f"{layers}.names"]
    assert set(lora.tensors()) == {ours(name) for name in names}
    tensors = {name: tensor.clone() for name, tensor in lora.tensors().items()}
    for name in names:
        part = f"{layers}.A0" if "lora_A" in name else f"{layers}.random_B"
        if "lora_A" in name or start == "random_B":
            tensors[ours(name)] = recording[f"{part}/{name}"]
    lora.load(tensors)
    return lora


@steps
@pytest.mark.parametrize("layers", SCOPES)
@pytest.mark.parametrize("start", ["official", "random_B"])
def test_a_step(recording, backbone, layers, start):
    lora = lora_of(backbone, recording, layers, start)
    assert lora.parameter_count == int(recording[f"{layers}.parameter_count"])
    alphas = torch.tensor(backbone.schedule.alphas_cumprod)[recording["timesteps"]].view(-1, 1, 1, 1)
    noise = recording["noise"]
    noisy = alphas.sqrt() * recording["latents"] + (1 - alphas).sqrt() * noise
    with (
        lora_attached(backbone.unet, lora, trainable=True),
        features_collected(backbone.unet) as features,
    ):
        prediction = backbone.unet(
            noisy, recording["timesteps"], encoder_hidden_states=recording["encoder_hidden_states"]
        ).sample
        temporal = 0.01 * published_loss(list(features.values()))
    loss = torch.nn.functional.mse_loss(prediction, noise)
    loss.backward()
    case = f"{layers}.{start}"
    assert difference(prediction.detach(), recording[f"{case}.pred"]) <= PREDICTION
    assert abs(loss.item() - recording[f"{case}.loss"].item()) <= LOSS
    assert temporal.item() == pytest.approx(recording[f"{case}.temporal_code_loss"].item(), rel=1e-3)

    def of(name):
        path, _, factor = ours(name).removesuffix(".weight").rpartition(".")
        return lora.factors(path)[factor == "lora_B"]

    names = recording.meta[f"{layers}.names"]
    for name, norm in zip(names, recording[f"{case}.grad_norms"].tolist(), strict=True):
        assert of(name).grad.norm().item() == pytest.approx(norm, rel=GRADIENTS, abs=1e-9), name
        if start == "official" and "lora_A" in name:
            assert not of(name).grad.any()  # nothing reaches A through a B of zeros
    total = torch.stack([parameter.grad.norm() for parameter in lora.parameters()]).norm().item()
    assert total == pytest.approx(recording[f"{case}.grad_norm_total"].item(), rel=GRADIENTS)

    hyper = recording.meta["optimizer"]
    torch.optim.AdamW(
        lora.parameters(),
        lr=hyper["lr"],
        betas=tuple(hyper["betas"]),
        eps=hyper["eps"],
        weight_decay=hyper["weight_decay"],
    ).step()
    for name, norm in zip(names, recording[f"{case}.updated_norms"].tolist(), strict=True):
        assert of(name).detach().norm().item() == pytest.approx(norm, rel=1e-5, abs=UPDATED), name
    for name in recording.names:
        kind, _, parameter = name.partition("/")
        if kind == f"{case}.grad":
            assert difference(of(parameter).grad, recording[name]) <= GRADIENTS, name
        elif kind == f"{case}.updated":
            # Adam's first step is nearly the rate times the gradient's sign: where a gradient is next to nothing,
            # rounding shows; a wrong rate or sign would be a share of the step a hundred times larger.
            assert difference(of(parameter).detach(), recording[name]) <= 1e-3, name
