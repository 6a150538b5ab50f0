"""Models that must be refused in one sentence, and ways to make them."""

import json

import pytest
from safetensors.torch import load_file, save_file

from evenreel.backbones import load_backbone
from evenreel.errors import WeightsError

UNET = "unet/diffusion_pytorch_model.safetensors"


def load_all(folder):
    """Open a model and load every part."""
    backbone = load_backbone(str(folder), device="cpu")
    return backbone.unet, backbone.vae, backbone.text


def refused(folder, said):
    with pytest.raises(WeightsError, match=said) as caught:
        load_all(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def with_weights(folder, change, file=UNET):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
