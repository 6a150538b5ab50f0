"""Mutated files of weights, adapters and configurations: each is read, or is one sentence of a WeightsError.

Seeded, some seconds by default; `EVENREEL_FUZZ_SECONDS=1800` goes on for as long, `EVENREEL_FUZZ_SEED` elsewhere.
"""

import json
import os
import random
import struct
import time

import pytest
import torch
from safetensors.torch import save_file

from adapters.lora_writing import ATTENTIONS, factors_of, kohya, layers_of
from adapters.making import ORIGIN, random_adapter
from evenreel.adapters import checkpoint
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.backbones import load_backbone
from evenreel.backbones.embeddings import read_embedding
from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.single_file import CheckpointFile
from evenreel.errors import EvenreelError, WeightsError
from one_file import save_checkpoint
from tiny import WIDTH, save_tiny

SECONDS = float(os.environ.get("EVENREEL_FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("EVENREEL_FUZZ_SEED", "0"))
VALUES = (
    None,
    -1,
    0,
    1,
    10**6,
    10**30,
    10**400,
    0.5,
    -0.5,
    1e308,
    float("nan"),
    "big",
    "",
    [],
    [-1],
    [[]],
    {},
    True,
)
"""What stands in the place of an entry of JSON."""
DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL", "C64", "F4", "?", 7, None)


def with_json(draw, text):
    """JSON with one entry, at any depth, changed or gone."""
    value = json.loads(text)
    place = value
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.7:
            place = place[key]
            continue
        if draw.random() < 0.15:
            del place[key]
        else:
            place[key] = draw.choice(VALUES)
        return json.dumps(value)


def with_bytes(draw, content):
    """Bytes with some flipped, cut off, doubled or made up."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(max(1, min(len(content), 4096)))
        match draw.randrange(4):
            case 0:
                content[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del content[draw.randrange(len(content) + 1) :]
            case 2:
                content[at:at] = content[at : at + draw.randint(1, 64)]
            case 3:
                content[at : at + 8] = draw.randbytes(8)
    return bytes(content)


def with_header(draw, content):
    """A safetensors file with one entry of its header changed, numbers left alone."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = draw.choice(list(header))
    if name == "__metadata__" or draw.random() < 0.2:
        text = with_json(draw, json.dumps(header))
    else:
        key = draw.choice(["dtype", "shape", "data_offsets"])
        header[name][key] = {
            "dtype": draw.choice(DTYPES),
            "shape": draw.choice(
                [[], [0], [-1], [10**30], [True], None, [1, 1, 1], header[name]["shape"][::-1]]
            ),
            "data_offsets": draw.choice([[0, 4], [4, 0], [-4, 4], [None, 4], [0], [0, 2**63], [0, 10**30]]),
        }[key]
        text = json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + content[8 + length :]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """By name: (file to mutate, how to read it)."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = load_backbone(str(save_tiny(folder / "tiny")), device="cpu")
    kohya(folder / "lora.safetensors", factors_of(layers_of(model.unet, ATTENTIONS)))
    checkpoint.save(random_adapter(model), folder / "adapter.safetensors", ORIGIN)
    save_file({"emb_params": torch.zeros(2, WIDTH)}, folder / "embedding.safetensors")
    _, dream = save_checkpoint(folder / "one")

    def lora(path):
        with loras_attached(model, [(read_lora(path, model), 1.0)]):
            pass

    def whole(path):
        CheckpointFile(path).check()

    def described(_):
        ModelFolder(folder / "tiny").check()

    readers = {
        "lora": (folder / "lora.safetensors", lora),
        "adapter": (folder / "adapter.safetensors", lambda path: checkpoint.load(path, base=None)),
        "embedding": (folder / "embedding.safetensors", lambda path: read_embedding(path, WIDTH)),
        "checkpoint": (dream, whole),
    }
    for part, name in (
        ("unet", "config.json"),
        ("vae", "config.json"),
        ("text_encoder", "config.json"),
        ("scheduler", "scheduler_config.json"),
        ("", "model_index.json"),
    ):
        readers[f"{part}/{name}"] = (folder / "tiny" / part / name, described)
    return readers


@pytest.mark.parametrize(
    "kind",
    [
        "lora",
        "adapter",
        "embedding",
        "checkpoint",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "/model_index.json",
    ],
)
def test_mutated_files_are_read_or_one_sentence(kinds, kind):
    path, read = kinds[kind]
    whole = path.read_bytes()
    draw = random.Random(f"{SEED} {kind}")
    deadline, tried = time.monotonic() + SECONDS / 9, 0
    refused: list[tuple[type, str]] = []
    try:
        while tried < 5 or time.monotonic() < deadline:
            tried += 1
            if path.suffix == ".json":
                content = with_json(draw, whole).encode() if draw.random() < 0.8 else with_bytes(draw, whole)
            else:
                content = (with_header if draw.random() < 0.6 else with_bytes)(draw, whole)
            path.write_bytes(content)
            try:
                read(path)
            except EvenreelError as error:
                refused.append((type(error), str(error)))
            except Exception as error:
                raise AssertionError(f"{kind} number {tried} of seed {SEED}: {content[:600]!r}") from error
    finally:
        path.write_bytes(whole)
    assert refused
    for kind_of_error, said in refused:
        assert kind_of_error is WeightsError
        assert "\n" not in said
        assert said.endswith(".")
