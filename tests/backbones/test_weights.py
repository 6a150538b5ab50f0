"""Damaged and unsafe weights: each is one sentence, before anything runs."""

import hashlib
import json
import os
import pickle
import shutil
import struct
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from backbones.refusing import UNET, edit_json, load_all, refused, with_weights
from evenreel.backbones import safetensors_file
from evenreel.errors import WeightsError


@pytest.mark.parametrize("keep", [0, 5, 100, 100_000, -1])
def test_truncated(folder, keep):
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[:keep])
    refused(folder, r"fetch it again\.$")


def test_trailing_garbage(folder):
    with (folder / UNET).open("ab") as file:
        file.write(b"more")
    refused(folder, "bytes of weights but")


def test_oversize_header(folder):
    (folder / UNET).write_bytes(struct.pack("<Q", 2**40) + b"{}")
    refused(folder, "cut short or is not")


@pytest.mark.parametrize(
    "header", [b"[]", b"{}x", b'{"a": 1}', b'{"a": {"data_offsets": 3}}', b"\xff\xff", b"[" * 99999]
)
def test_damaged_header(folder, header):
    (folder / UNET).write_bytes(struct.pack("<Q", len(header)) + header)
    refused(folder, "header of this safetensors file is damaged")


def test_duplicate_keys(folder):
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{entry}, {entry}}}".encode()
    (folder / UNET).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(folder, "header of this safetensors file is damaged")


@pytest.mark.parametrize("protocol", ["pickle", "torch"])
def test_pickles_in_disguise(folder, protocol):
    if protocol == "torch":
        torch.save({"a": torch.zeros(3)}, folder / UNET)
    else:
        (folder / UNET).write_bytes(pickle.dumps({"a": [0.0] * 100}))
    refused(folder, "this is a pickle")


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt"])
def test_open_pickles(folder, suffix):
    (folder / UNET).rename((folder / UNET).with_suffix(suffix))
    refused(folder, "weights are pickled")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, wrong):
    with_weights(folder, lambda tensors: tensors["conv_in.weight"].view(-1).__setitem__(7, wrong))
    refused(folder, "unet: contains NaN or infinite weights")


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (UNET, "conv_in.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"),
        ("text_encoder/model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_missing_and_misshapen_weights(folder, file, key):
    with_weights(folder, lambda tensors: tensors.update({key: torch.zeros(3, 3)}), file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers and diffusers speak of it too
        refused(folder, r"cannot be loaded|missing or of the wrong size")
        with_weights(folder, lambda tensors: tensors.pop(key), file)
        refused(folder, "1 weights are missing or of the wrong size")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_parts(folder, part):
    (folder / part).rename(folder / "elsewhere")
    refused(folder, rf"{part}.* missing")


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0"])
@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json", "model_index.json"])
def test_damaged_configurations(folder, name, content):
    (folder / name).write_text(content)
    refused(folder, "fetch the model again")


def test_damaged_tokenizers(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    refused(folder, "tokenizer")


def test_a_tokenizer_without_vocabulary(folder):
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, "tokenizer")


def test_other_models(folder):
    edit_json(folder / "unet" / "config.json", _class_name="UNet3DConditionModel")
    refused(folder, "must be a plain UNet2DConditionModel, got UNet3DConditionModel")
    edit_json(folder / "unet" / "config.json", _class_name="UNet2DConditionModel", in_channels=9)
    refused(folder, "is a model for inpainting")


def test_remote_code(folder):
    edit_json(folder / "model_index.json", unet=["my_unet", "MyUNet"])
    refused(folder, "run code of the model's own, which is refused")


def test_checksums(folder):
    digest = hashlib.sha256((folder / UNET).read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {UNET}\n")
    load_all(folder)
    content = bytearray((folder / UNET).read_bytes())
    content[-1] ^= 1
    (folder / UNET).write_bytes(content)
    refused(folder, "differs from its checksum")


def test_shards_may_not_leave_their_folder(folder):
    (folder / UNET).rename(folder / "unet" / "other.safetensors")
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index))
    refused(folder, "outside its folder")


@given(content=st.binary(max_size=64))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_the_check(tmp_path, content):
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    try:
        safetensors_file.check(file)
    except WeightsError:
        return
    assert content[8:10] == b"{}"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./absent", "absent", "a/b/c", "~/absent"])
def test_absent_folders(name):
    refused(name, "no such model folder")


def test_single_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(tmp_path / "model.safetensors", "is cut short or is not a safetensors file")


@pytest.mark.parametrize("variant", ["bf16", "non_ema", "fp16"])
def test_any_variant_that_is_alone_is_read(folder, variant):
    file = folder / UNET
    file.rename(file.with_suffix(f".{variant}.safetensors"))
    load_all(folder)


def test_several_variants_are_named(folder):
    file = folder / UNET
    shutil.copy(file, file.with_suffix(".ema.safetensors"))
    file.rename(file.with_suffix(".non_ema.safetensors"))
    refused(folder, r"several variants of the weights \(ema, non_ema\)")


def test_shards_of_a_variant(folder):
    file = folder / UNET
    tensors = load_file(file)
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        shard = f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name].half() for name in part}, file.with_name(shard))
        places |= dict.fromkeys(part, shard)
    file.unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    file.with_name("diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(index))
    load_all(folder)


@pytest.mark.parametrize(
    ("part", "entry", "said"),
    [
        ("unet", {"sample_size": "big"}, "sample_size must be a valid integer, got 'big'"),
        ("unet", {"attention_head_dim": 0}, "attention_head_dim must be greater than or equal to 1, got 0"),
        ("unet", {"layers_per_block": 10**6}, "layers_per_block must be less than or equal to 64"),
        ("unet", {"block_out_channels": [10**30] * 4}, "block_out_channels"),
        ("unet", {"time_cond_proj_dim": 256}, "takes its guidance inside"),
        ("unet", {"class_embed_type": "timestep"}, "takes classes or pictures besides the prompt"),
        ("unet", {"encoder_hid_dim": 8}, "takes pictures in the place of the prompt"),
        (
            "unet",
            {"addition_embed_type": "text_time"},
            "has two text encoders, and the folder text_encoder_2 is missing",
        ),
        ("vae", {"scaling_factor": 0}, "scaling_factor must be greater than 0, got 0"),
        ("vae", {"scaling_factor": float("nan")}, "scaling_factor must be a finite number"),
        ("vae", {"latent_channels": 16}, "inputs of 4 channels"),
        ("text_encoder", {"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
        (
            "text_encoder",
            {"hidden_size": 2048},
            "cannot be loaded|of the wrong size|numbers, and its files hold",
        ),
        ("scheduler", {"beta_start": -1}, "beta_start must be greater than 0, got -1"),
        ("scheduler", {"beta_start": 10**400}, "beta_start must be a valid number"),
        ("scheduler", {"trained_betas": []}, "trained_betas list should have at least 2 items"),
        ("scheduler", {"steps_offset": -1}, "steps_offset must be greater than or equal to 0"),
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "sampled by FlowMatchEuler"),
        ("scheduler", {"_class_name": "LCMScheduler"}, "sampled by LCMScheduler"),
        ("unet", {"block_out_channels": [320, 320, 320]}, r"describes \d+ numbers, and its files hold \d+"),
    ],
)
def test_configurations_that_cannot_be(folder, part, entry, said):
    edit_json(folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"), **entry)
    refused(folder, said)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, "numbers of type 'F99'"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "the place of a is wrong"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "the place of a is wrong"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "is damaged"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "is damaged"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [None, 4]}}, "is damaged"),
        ({"a": {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4]}}, "is damaged"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"x": 1}}, "damaged"),
        (
            {f"{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"},
            "the place of b is wrong",
        ),
    ],
)
def test_headers_that_cannot_be(folder, header, said):
    text = json.dumps(header).encode()
    (folder / UNET).write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(folder, said)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_are_fractions(folder, dtype):
    with_weights(folder, lambda t: t.update({"conv_in.bias": torch.zeros(32, dtype=dtype)}))
    refused(folder, "conv_in.bias holds numbers of type .*not quantised")


def test_a_file_that_changed_is_hashed_again(folder):
    file = folder / UNET
    before, times = safetensors_file.sha256(file), file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert safetensors_file.sha256(file) != before
