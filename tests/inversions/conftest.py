import pytest

from tiny import save_tiny, sharp_backbone


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny random backbone in float64; whoever attaches to it must leave it as it was."""
    return sharp_backbone(save_tiny(tmp_path_factory.mktemp("tiny")))
