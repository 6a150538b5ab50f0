"""A tiny model, and quick edits with it, for tests that need no others."""

import pytest

from evenreel.backbones import load_backbone
from evenreel.settings import EditSettings


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def settings(tiny_folder):
    def make(**changes) -> EditSettings:
        quick = {"prompt": "a star", "source_prompt": "a ball", "steps": 2, "model": str(tiny_folder)}
        return EditSettings(**{**quick, "device": "cpu", "batch": 3, "host": "frame", **changes})

    return make
