"""The preset `low-memory`: parts take turns on the device, and the autoencoder computes large frames in pieces."""

import pytest
import torch
from diffusers import AutoencoderKL

from closeness import assert_close
from evenreel import AdapterUse, EditSettings
from evenreel.backbones import load_backbone, turns
from evenreel.errors import SettingsError
from tiny_xl import save_tiny_xl


class Network:
    """Remembers where it was put."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def to(self, device):
        self.log.append((self.name, str(device)))


def test_others_are_moved_away_before_a_part_comes():
    log = []
    networks = {name: [Network(log, name)] for name in ("unet", "text", "vae")}
    with turns.turn_of("text", networks, torch.device("cuda")):
        assert log == [("unet", "cpu"), ("vae", "cpu"), ("text", "cuda")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny_xl(tmp_path_factory.mktemp("tiny-xl"))


def test_parts_take_turns_in_an_order_that_follows_from_the_work(saved, monkeypatch):
    """On a stand-in for a GPU, as moving is all that is looked at."""
    log = []
    monkeypatch.setattr(turns, "move", lambda part, networks, device: log.append((part, tuple(networks))))
    monkeypatch.setattr(turns, "RESTING", torch.device("meta"))
    backbone = load_backbone(str(saved), device="cpu")
    backbone._low_memory = True
    monkeypatch.setattr(type(backbone), "_home", torch.device("cpu"))
    with torch.no_grad():
        embeds = backbone.embed(["a"])
        latents = backbone.encode(torch.rand(2, 3, 64, 64))
        backbone.predict_noise(latents, 401, embeds)
    backbone.decode(latents)
    assert log == [
        ("text", ("text",)),
        ("vae", ("text", "vae")),
        ("unet", ("unet", "text", "vae")),
        ("vae", ("unet", "text", "vae")),
    ]


def test_small_frames_are_the_same_bit_for_bit(saved):
    plain, low = (load_backbone(str(saved), device="cpu", preset=preset) for preset in ("", "low-memory"))
    frames = torch.rand(1, 3, 64, 64)
    assert torch.equal(plain.encode(frames), low.encode(frames))
    assert torch.equal(plain.decode(plain.encode(frames)), low.decode(plain.encode(frames)))
    assert plain.fingerprint == low.fingerprint


def test_large_frames_are_tiled_as_diffusers_does(saved, monkeypatch):
    monkeypatch.setattr(turns, "TILE", 64)
    low = load_backbone(str(saved), device="cpu", preset="low-memory")
    theirs = AutoencoderKL.from_pretrained(saved / "vae")
    theirs.enable_tiling()  # of the size that its configuration names, 64
    frames = torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        latents = theirs.encode(frames * 2 - 1).latent_dist.mean * theirs.config.scaling_factor
        decoded = theirs.decode(latents / theirs.config.scaling_factor).sample
    assert_close(low.encode(frames), latents)
    assert_close(low.decode(latents), (decoded / 2 + 0.5).clamp(0, 1))


def test_the_setting_makes_one_frame_pass_at_a_time():
    assert EditSettings(prompt="x", preset="low-memory").batch == 1
    assert EditSettings(prompt="x", preset="low-memory", batch=2).batch == 2
    assert EditSettings(prompt="x").batch == 8
    with pytest.raises(SettingsError, match="keeps weights twice"):
        EditSettings(prompt="x", preset="low-memory", adapter=AdapterUse(file="a", fused=True))
    with pytest.raises(SettingsError, match="preset must be"):
        EditSettings.from_json({"prompt": "x", "preset": "huge"})


@pytest.mark.gpu
def test_parts_take_turns_on_a_gpu(saved):
    low, plain = (
        load_backbone(str(saved), device="cuda", dtype="float32", preset=p) for p in ("low-memory", "")
    )
    with torch.no_grad():
        for backbone in (low, plain):
            _ = backbone.unet
        embeds = low.embed(["a"])
        assert next(low.unet.parameters()).device.type == "cpu"
        noise = [b.predict_noise(torch.ones(1, 4, 8, 8), 401, embeds) for b in (low, plain)]
    assert next(low.unet.parameters()).device.type == "cuda"
    assert {p.device.type for text in low.text.text_encoders for p in text.parameters()} == {"cpu"}
    assert_close(*noise)
