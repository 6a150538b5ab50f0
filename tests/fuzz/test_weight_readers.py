"""Mutated weights, adapters, configurations and tokenizers: each is read, or is one sentence of a WeightsError."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from adapters.lora_writing import ATTENTIONS, factors_of, kohya, layers_of
from adapters.making import ORIGIN, random_adapter
from evenreel.adapters import checkpoint
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.backbones import load_backbone
from evenreel.backbones.control import load_control
from evenreel.backbones.embeddings import read_embedding
from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.single_file import CheckpointFile
from evenreel.backbones.text import PromptEncoder
from evenreel.backbones.tokenizer import open_tokenizer
from evenreel.errors import WeightsError
from evenreel.motion.folder import load_motion, save_motion
from fuzz.mutation import with_bytes, with_bytes_anywhere, with_header, with_json, with_packed_json
from fuzz.trying import Reader, hunt
from motion.moving import random_motion
from one_file import save_checkpoint
from tiny import WIDTH, save_tiny, save_tiny_control

CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "": "model_index.json",
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

KINDS = (
    "lora",
    "adapter",
    "embedding",
    "checkpoint",
    *(f"{part}/{name}".strip("/") for part, name in CONFIGS.items()),
    *(f"tokenizer/{name}" for name in TOKENIZER),
    "control/config.json",
    "motion/config.json",
)


def digest(adapter):
    """All that an adapter is."""
    tensors = {name: (tensor.dtype, tensor.tolist()) for name, tensor in adapter.state_dict().items()}
    return repr(adapter.settings), repr(tensors)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """By kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = load_backbone(str(save_tiny(folder / "tiny")), device="cpu")
    kohya(folder / "lora.safetensors", factors_of(layers_of(model.unet, ATTENTIONS)))
    checkpoint.save(random_adapter(model), folder / "adapter.safetensors", ORIGIN)
    save_file({"emb_params": torch.zeros(2, WIDTH)}, folder / "embedding.safetensors")
    _, dream = save_checkpoint(folder / "one")
    save_tiny_control(folder / "control")
    save_motion(random_motion(model.unet), folder / "motion")

    def lora(path):
        with loras_attached(model, [(read_lora(path, model), 1.0)]):
            pass

    def described(_):
        ModelFolder(folder / "tiny").check()

    def spoken(path):
        encoder = PromptEncoder(open_tokenizer(path.parent, 514), model.text.text_encoder)
        encoder.tokenize(["a ball"])
        encoder.embed(["a (red:1.2) ball"])

    binary, text = (with_header, with_header, with_bytes), (with_json, with_json, with_json, with_bytes)
    found = {
        "lora": Reader(folder / "lora.safetensors", lora, binary),
        "adapter": Reader(
            folder / "adapter.safetensors",
            lambda path: checkpoint.load(path, base=None),
            (*binary, with_packed_json, with_bytes_anywhere),
            same=lambda found: digest(found[0]),
        ),
        "embedding": Reader(
            folder / "embedding.safetensors", lambda path: read_embedding(path, (WIDTH,)), binary
        ),
        "checkpoint": Reader(dream, lambda path: CheckpointFile(path).check(), binary),
        "control/config.json": Reader(
            folder / "control" / "config.json", lambda path: load_control(str(path.parent), model), text
        ),
        "motion/config.json": Reader(
            folder / "motion" / "config.json", lambda path: load_motion(path.parent), text
        ),
    }
    for part, name in CONFIGS.items():
        found[f"{part}/{name}".strip("/")] = Reader(folder / "tiny" / part / name, described, text)
    for name in TOKENIZER:
        found[f"tokenizer/{name}"] = Reader(folder / "tiny" / "tokenizer" / name, spoken, text)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_one_sentence(readers, kind, seconds, tmp_path):
    reader = replace(readers[kind], errors=WeightsError)
    assert hunt(kind, reader, seconds, tmp_path)
