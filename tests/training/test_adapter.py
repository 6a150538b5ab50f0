"""What an adapter is trained by, against computations of its own, on a tiny model."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.features import features_collected
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.temporal_loss import noise_levels_loss
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.backbones.control import load_control
from evenreel.errors import SettingsError
from evenreel.settings import read
from evenreel.training.adapter import recipes
from evenreel.training.adapter.noise import prepare
from evenreel.training.adapter.objective import training_in
from evenreel.training.adapter.settings import LossSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch
from hosts.jobs import Around
from tiny import save_tiny_control


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


def made_up(videos=2, frames=2):
    generator = torch.Generator().manual_seed(3)
    return Batch(
        frames=torch.rand(videos, frames, 3, 64, 64, generator=generator),
        captions=tuple(f"a ball {index}" for index in range(videos)),
        seeds=tuple(range(5, 5 + videos)),
        keys=tuple(f"clip{index}" for index in range(videos)),
    )


def vision(frames):
    """Stands for a vision tower of 6 tokens, 5 wide."""
    return functional.adaptive_avg_pool2d(frames, (6, 5)).mean(1)


def new_adapter(backbone, *, moved=False, tokens=True):
    settings = AdapterSettings(
        lora=LoraSettings(scope="all"), tokens=PromptTokenSettings(shared=3) if tokens else None
    )
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter.of(backbone, settings, vision_width=5, generator=generator)
    if moved:
        with torch.no_grad():
            for path in adapter.lora.shapes:
                second = adapter.lora.factors(path)[1]
                second.copy_(0.1 * torch.randn(second.shape, generator=generator))
    return adapter


def test_the_loss_is_that_of_frames_one_by_one(backbone):
    settings = LossSettings(
        temporal="noise-levels", weight_temporal=0.3, weight_diffusion=2.0, unconditional=0.0
    )
    batch, adapter = made_up(), new_adapter(backbone, moved=True)
    prepared = prepare(batch, Encoded(backbone, vision), settings)
    with training_in(backbone, adapter, settings) as trainee:
        loss, figures = trainee(prepared)
        errors, features, noise = [], [], iter(prepared.noise)
        with torch.no_grad():
            for video in range(2):
                text = backbone.embed([batch.captions[video]])
                for level in range(2):
                    timestep = int(prepared.timesteps[video, level])
                    alpha = backbone.schedule.alpha(timestep)
                    for frame in range(2):
                        picture = batch.frames[video, frame : frame + 1]
                        drawn = next(noise)[None]
                        noisy = alpha**0.5 * backbone.encode(picture) + (1 - alpha) ** 0.5 * drawn
                        with features_collected(backbone.unet) as seen:
                            predicted = backbone.unet(
                                noisy, timestep, adapter.tokens.before(text, vision(picture))
                            )[0]
                            features.append(list(seen.values()))
                        errors.append((predicted - drawn).square().mean())
    layers = [torch.cat(layer) for layer in zip(*features, strict=True)]
    temporal = sum(noise_levels_loss(layer, 2) for layer in layers)
    assert figures["diffusion"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert figures["temporal"].item() == pytest.approx(temporal.item(), rel=1e-3)
    assert loss.item() == pytest.approx(2.0 * figures["diffusion"].item() + 0.3 * temporal.item(), rel=1e-3)


@pytest.mark.parametrize("form", ["noise-levels", "source-anchored", "frames"])
def test_gradients_reach_what_is_trained_and_nothing_else(backbone, form):
    batch, adapter = made_up(frames=3), new_adapter(backbone, moved=True)
    settings = LossSettings(temporal=form, weight_diffusion=0.0, weight_temporal=1.0)
    before = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    with training_in(backbone, adapter, settings) as trainee:
        loss, _ = trainee(prepare(batch, Encoded(backbone, vision), settings))
        loss.backward()
        assert loss > 0
        assert all(value.grad is not None for value in trainee.parameters())
        assert any(value.grad.abs().max() > 0 for value in adapter.lora.parameters())
    after = backbone.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(value.requires_grad for value in backbone.unet.parameters())


def test_some_captions_are_left_out_always_the_same(backbone):
    batch, encoded = made_up(videos=12), Encoded(backbone, None)
    empty = backbone.embed([""])[0]
    texts = [prepare(batch, encoded, LossSettings(unconditional=0.5)).text for _ in range(2)]
    assert torch.equal(*texts)
    assert 2 <= sum(torch.equal(text, empty) for text in texts[0]) <= 10
    kept = prepare(batch, encoded, LossSettings(unconditional=0.0)).text
    assert not any(torch.equal(text, empty) for text in kept)


def test_frames_share_as_much_noise_as_is_said(backbone):
    batch, encoded = made_up(videos=12, frames=2), Encoded(backbone, None)
    for share in (0.0, 0.6, 1.0):
        noise = prepare(batch, encoded, LossSettings(shared_noise=share)).noise
        one, other = noise.unflatten(0, (-1, 2)).unbind(1)
        assert noise.std().item() == pytest.approx(1, abs=0.03)
        assert (one * other).mean().item() == pytest.approx(share, abs=0.04)


def test_below_the_gate_only_the_noise_counts(backbone):
    settings = LossSettings(window=Window(0.0, 0.4))
    with training_in(backbone, new_adapter(backbone, tokens=False), settings) as trainee:
        _, figures = trainee(prepare(made_up(), Encoded(backbone, None), settings))
    assert figures["temporal"] == 0


def test_a_clip_that_is_its_own_source_costs_nothing_where_nothing_moves(backbone):
    """Still frames with equal noise have features that stay as they are: so do the source's."""
    batch = made_up(videos=1)
    still = replace(batch, frames=batch.frames[:, :1].expand(-1, 2, -1, -1, -1))
    settings = LossSettings()
    prepared = prepare(still, Encoded(backbone, None), settings)
    pairs = prepared.noise.unflatten(0, (2, 2))
    pairs[:, 1] = pairs[:, 0]
    with training_in(backbone, new_adapter(backbone, tokens=False), settings) as trainee:
        _, figures = trainee(prepared)
    assert figures["temporal"] < 1e-8


class Counting(Around):
    encoded = embedded = 0

    def encode(self, frames):
        self.encoded += 1
        return self.inner.encode(frames)

    def embed(self, prompts):
        self.embedded += len(prompts)
        return self.inner.embed(prompts)


def test_frozen_work_is_done_once(backbone):
    counting = Counting(backbone)
    encoded = Encoded(counting, None)
    first = prepare(made_up(), encoded, LossSettings())
    done = counting.encoded, counting.embedded
    again = prepare(made_up(), encoded, LossSettings())
    assert torch.equal(first.latents, again.latents)
    assert (counting.encoded, counting.embedded) == done
    assert counting.encoded == 2
    tight = Encoded(counting, None, limit=1)
    assert torch.equal(prepare(made_up(), tight, LossSettings()).latents, first.latents)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temporal": "none"},
        {"weight_temporal": -1.0},
        {"weight_temporal": 0.0, "weight_diffusion": 0.0},
        {"gate": 2.0},
    ],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError):
        read(LossSettings, wrong, "a training")


def test_the_published_loss_is_that_of_noise_levels_one_by_one(backbone):
    """Eq. 4, 6 and 19: the LoRA rests below its window, and the temporal loss counts above the gate alone."""
    settings = recipes.adapter("published").loss
    batch, adapter = made_up(videos=4, frames=3), new_adapter(backbone, moved=True)
    prepared = prepare(batch, Encoded(backbone, vision), settings)
    above = prepared.timesteps >= 500
    assert above.any()
    assert not above.all()
    with training_in(backbone, adapter, settings) as trainee:
        loss, figures = trainee(prepared)
        noise, errors, layers = iter(prepared.noise), [], []
        with torch.no_grad():
            for video in range(4):
                text = backbone.embed([batch.captions[video]])
                for level in range(2):
                    timestep = int(prepared.timesteps[video, level])
                    alpha = backbone.schedule.alpha(timestep)
                    trainee._switch.turn(on=timestep >= 500)
                    features = []
                    for frame in range(3):
                        picture, drawn = batch.frames[video, frame : frame + 1], next(noise)[None]
                        noisy = alpha**0.5 * backbone.encode(picture) + (1 - alpha) ** 0.5 * drawn
                        embeds = adapter.tokens.before(text, vision(picture))
                        with features_collected(backbone.unet) as seen:
                            errors.append((backbone.unet(noisy, timestep, embeds)[0] - drawn).square().mean())
                            features.append([layer.flatten() for layer in seen.values()])
                    if timestep >= 500:
                        layers.append([torch.stack(layer) for layer in zip(*features, strict=True)])
    squares = []
    for clip in layers:
        for first, second, third in clip:
            one, two = (
                functional.cosine_similarity(a, b, dim=0) for a, b in ((first, second), (second, third))
            )
            squares.append((two - one) ** 2)
    temporal = torch.stack(squares).sum() / len(layers)
    assert figures["diffusion"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert figures["temporal"].item() == pytest.approx(temporal.item(), rel=1e-2)
    assert loss.item() == pytest.approx(
        0.01 * figures["diffusion"].item() + figures["temporal"].item(), rel=1e-4
    )


def test_below_its_window_only_tokens_learn(backbone):
    settings = replace(recipes.adapter("published").loss, noise_levels=Window(0.0, 0.4))
    adapter = new_adapter(backbone, moved=True)
    with training_in(backbone, adapter, settings) as trainee:
        loss, figures = trainee(prepare(made_up(frames=3), Encoded(backbone, vision), settings))
        loss.backward()
    assert figures["temporal"] == 0
    assert all(value.grad is None or not value.grad.any() for value in adapter.lora.parameters())
    assert adapter.tokens.shared.grad.any()


def test_a_controlnet_for_depth_is_at_work_and_learns_nothing(backbone, tmp_path):
    folder = save_tiny_control(tmp_path / "control")
    control = load_control(str(folder), backbone)
    settings = replace(recipes.adapter("published").loss, control=str(folder))
    batch = made_up(frames=3)
    depth = torch.rand(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    batch = replace(batch, maps={"depth": depth})
    losses = []
    for shown in (batch, replace(batch, maps={"depth": 1 - depth})):
        adapter = new_adapter(backbone, moved=True)
        with training_in(backbone, adapter, settings, None, control) as trainee:
            loss, _ = trainee(prepare(shown, Encoded(backbone, vision), settings))
            loss.backward()
        losses.append(loss.item())
        assert adapter.tokens.shared.grad.any()
        assert all(value.grad is None for value in control.net.parameters())
    assert losses[0] != losses[1]
