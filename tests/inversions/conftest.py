import pytest
import torch

from evenreel.backbones import load_backbone
from tiny import save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny random backbone; whoever attaches to it must leave it as it was."""
    backbone = load_backbone(str(save_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")
    with torch.no_grad():
        # Sharper than at birth, so that attention matters to the outcome.
        for name, weight in backbone.unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weight.mul_(3)
    return backbone
