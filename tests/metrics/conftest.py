"""Clips of the world and tiny networks, shared by the tests of metrics."""

import pytest

from evenreel.backbones.clip import load_clip
from evenreel.backbones.vision import load_dino
from evenreel.metrics.lpips import Lpips
from towers import save_clip, save_dino, save_lpips


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory):
    return save_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def clip(clip_folder):
    return load_clip(str(clip_folder), device="cpu")


@pytest.fixture(scope="session")
def mini_clip():
    return load_clip("mini", device="cpu")


@pytest.fixture(scope="session")
def dino(dino_folder):
    return load_dino(str(dino_folder), device="cpu")


@pytest.fixture(scope="session")
def lpips(tmp_path_factory):
    return Lpips.load(save_lpips(tmp_path_factory.mktemp("lpips") / "lpips.safetensors"), device="cpu")
