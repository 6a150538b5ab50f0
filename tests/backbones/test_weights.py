"""Damaged, unsafe and absent weights: each is one sentence, before anything runs."""

import hashlib
import json
import pickle
import shutil
import struct
import warnings
from importlib.metadata import EntryPoint

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from evenreel import registry
from evenreel.backbones import folder, load_backbone, mini, safetensors_file
from evenreel.errors import PluginError, WeightsError

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
    refused(folder, "only plain SD 1.x and 2.x")


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
    refused(tmp_path / "model.safetensors", "single file")


def test_absent_hub_models_say_what_to_fetch(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("somebody/some-model", r"hf download somebody/some-model .*about 4 GB.*kept in ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("somebody/some-model", r"HF_HUB_OFFLINE is set")


def test_the_packaged_model_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(mini, "FOLDER", tmp_path / "mini")
    refused("mini", "install evenreel again")


def test_the_packaged_model_is_called_mini(monkeypatch, folder):
    monkeypatch.setattr(mini, "FOLDER", folder)
    assert load_backbone("mini", device="cpu").name == "mini"


@pytest.fixture
def plugin(monkeypatch):
    """Register a backbone plug-in called toy."""

    def register(value):
        entry = EntryPoint(name="toy", value=value, group=registry.BACKBONES)
        monkeypatch.setattr(
            registry, "entry_points", lambda *, group, name=None: [entry] if name in (None, "toy") else []
        )

    return register


def test_plugin_backbones(plugin, saved):
    plugin("backbones.toy_plugin:load")
    backbone = load_backbone(f"toy:{saved}", device="cpu", dtype="bfloat16")
    assert (backbone.name, backbone.dtype) == ("a toy", torch.bfloat16)


def test_a_plugin_that_fails_to_load(plugin):
    plugin("evenreel.backbones.nowhere:load")
    with pytest.raises(PluginError, match=r"the backbone 'toy' .* fails to load"):
        load_backbone("toy:somewhere", device="cpu")


def test_a_folder_goes_before_a_backbone_of_its_name(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "stable-diffusion")
    monkeypatch.chdir(tmp_path)
    assert load_backbone("stable-diffusion", device="cpu").name == "stable-diffusion"


def test_a_backbone_without_a_location_is_refused():
    with pytest.raises(WeightsError, match="needs a model folder"):
        load_backbone("stable-diffusion:", device="cpu")


def test_a_model_of_the_hub_that_comes_only_in_half_precision(tmp_path, monkeypatch):
    """Its weights are asked for by their other names, and nothing is asked for twice."""
    asked = []

    def snapshot(name, *, allow_patterns, local_files_only):
        asked.append((name, allow_patterns, local_files_only))
        if len(asked) == 1:
            for stem in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"):
                (tmp_path / stem).parent.mkdir()
                (tmp_path / f"{stem}.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert folder.find("someone/model", download=True).path == tmp_path
    assert asked[1] == ("someone/model", ["text_encoder/model.fp16.safetensors"], False)
