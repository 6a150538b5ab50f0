import pytest

from adapters.lora_writing import ATTENTIONS, TEXT, factors_of, layers_of
from evenreel.backbones import load_backbone
from tiny import save_tiny, sharp_backbone


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny random backbone in float64; whoever attaches to it must leave it as it was."""
    return sharp_backbone(save_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def model(tiny_folder):
    """A model of a file's own, since it is changed and put back."""
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def unet_factors(model):
    return factors_of(layers_of(model.unet, ATTENTIONS))


@pytest.fixture(scope="module")
def text_factors(model):
    return factors_of(layers_of(model.text.text_encoder, TEXT), seed=1)
