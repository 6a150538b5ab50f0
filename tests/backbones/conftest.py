import shutil

import pytest

from evenreel.backbones import load_backbone
from tiny import save_tiny


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny model's folder; not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a tiny model's folder, to damage."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(scope="session")
def tiny(saved):
    """A tiny random backbone, to read only."""
    return load_backbone(str(saved), device="cpu")
