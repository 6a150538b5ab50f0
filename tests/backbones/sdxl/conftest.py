import pytest

from evenreel.backbones import load_backbone
from tiny_xl import save_tiny_xl


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny SD-XL's folder; not to be changed."""
    return save_tiny_xl(tmp_path_factory.mktemp("tiny-xl"))


@pytest.fixture(scope="session")
def tiny(saved):
    """A tiny random SD-XL, to read only."""
    return load_backbone(str(saved), device="cpu")
