"""Damaged, unsafe and absent weights: each is one sentence, before anything runs."""

import hashlib
import json
import os
import pickle
import shutil
import struct
import warnings
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from evenreel import registry
from evenreel.backbones import load_backbone, mini, safetensors_file
from evenreel.backbones.hub import find
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


def test_absent_hub_models_say_what_to_fetch(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("somebody/some-model", r"hf download somebody/some-model .*about 4 GB.*kept in ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("somebody/some-model", r"HF_HUB_OFFLINE is set")


def test_the_packaged_model_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(mini, "FOLDER", tmp_path / "mini")
    refused("mini", "install evenreel again")


def listed(folder):
    """The folder with checksums of all that decides what the model does."""
    files = sorted(file for end in ("*.safetensors", "*/*.json") for file in folder.rglob(end))
    lines = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder).as_posix()}\n" for f in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: edit_json(folder / "unet" / "config.json", norm_eps=1e-4),
            "config.json: differs from",
        ),
        (
            lambda folder: edit_json(folder / "scheduler" / "scheduler_config.json", beta_end=0.02),
            "differs from",
        ),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "SHA256SUMS: is empty"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS: cannot be read"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\xfe"), "SHA256SUMS: cannot be read"),
        (lambda folder: (folder / "SHA256SUMS").write_text("what?"), "is not a list of checksums"),
        (
            lambda folder: (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n"),
            "is not a list of checksums",
        ),
        (
            lambda folder: (folder / "SHA256SUMS").write_text(
                "".join((folder / "SHA256SUMS").read_text().splitlines(keepends=True)[:-1])
            ),
            "has no checksum of",
        ),
    ],
)
def test_the_packaged_model_is_known_by_all_its_files(monkeypatch, folder, damage, said):
    monkeypatch.setattr(mini, "FOLDER", listed(folder))
    load_all("mini")
    damage(folder)
    refused("mini", said)


def test_the_packaged_model_is_called_mini(monkeypatch, folder):
    listed(folder)
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
    with pytest.raises(WeightsError, match="needs a model"):
        load_backbone("stable-diffusion:", device="cpu")


@pytest.fixture
def hub(saved, tmp_path, monkeypatch):
    """A hub that knows one model, the tiny one, and what has been fetched from it."""
    fetched = []

    class Hub:
        files = sorted(p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file())
        fault = None

        def model_info(self, name, *, timeout):
            if self.fault is not None:
                raise self.fault
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def snapshot(name, *, allow_patterns, local_files_only=False):
        if local_files_only:
            raise hub_error("LocalEntryNotFoundError")
        wanted = [f for f in Hub.files if any(fnmatch(f, pattern) for pattern in allow_patterns)]
        fetched.extend(wanted)
        for file in wanted:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(saved / file.replace(".fp16.", "."), tmp_path / file)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Hub.fetched = fetched
    return Hub


def test_a_model_is_fetched_whole(hub, tmp_path):
    assert find("someone/model", download=True).path == tmp_path
    load_all(tmp_path)


def test_weights_in_half_precision_are_fetched_where_there_are_no_others(hub):
    plain = "text_encoder/model.safetensors"
    hub.files = [f.replace("model.saf", "model.fp16.saf") if f == plain else f for f in hub.files]
    hub.files += ["unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin"]
    find("someone/model", download=True)
    weights = {file for file in hub.fetched if file.endswith((".safetensors", ".bin"))}
    assert weights == {UNET, UNET.replace("unet", "vae"), "text_encoder/model.fp16.safetensors"}


def test_nothing_is_fetched_of_a_model_that_cannot_be_used(hub, saved, tmp_path, monkeypatch):
    config = json.loads((saved / "unet" / "config.json").read_text()) | {"in_channels": 9}
    original = shutil.copy

    def copy(source, target):
        original(source, target)
        if source == saved / "unet" / "config.json":
            target.write_text(json.dumps(config))

    monkeypatch.setattr(shutil, "copy", copy)
    with pytest.raises(WeightsError, match="is a model for inpainting"):
        find("someone/model", download=True)
    assert not [file for file in hub.fetched if file.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["model_index.json", "unet/diffusion_pytorch_model.bin"], "only pickled weights"),
        (["dream.safetensors", "README.md"], r"no folder in diffusers' layout but single files \(dream"),
        (["README.md"], "has no unet/diffusion_pytorch_model.safetensors"),
    ],
)
def test_models_of_the_hub_that_are_no_folders(hub, files, said):
    hub.files = files
    with pytest.raises(WeightsError, match=said):
        find("someone/model", download=True)
    assert not hub.fetched


def hub_error(name):
    """One of the hub's own, as its library raises them."""
    import huggingface_hub.errors as errors

    kind = getattr(errors, name)
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("RepositoryNotFoundError", "has no such model, or it is private.*hf auth login"),
        ("GatedRepoError", "accept them on its page"),
        ("HfHubHTTPError", "cannot be fetched from the Hugging Face hub"),
        ("LocalEntryNotFoundError", "cannot be fetched from the Hugging Face hub"),
    ],
)
def test_the_hubs_reasons(hub, fault, said):
    hub.fault = hub_error(fault)
    with pytest.raises(WeightsError, match=said) as caught:
        find("someone/model", download=True)
    assert "--download" not in str(caught.value)


def no_network(name):
    """What the hub's library lets through where there is no network, or one that asks for a sign-in first."""
    from huggingface_hub.errors import HfHubHTTPError

    if name == "JSONDecodeError":
        return json.JSONDecodeError("Expecting value", "<html>sign in</html>", 0)
    client = import_module(HfHubHTTPError.__bases__[0].__module__.split(".")[0])
    return getattr(client, name)("no such host")


NO_NETWORK = ("ConnectError", "ReadTimeout", "JSONDecodeError")


@pytest.mark.parametrize("fault", NO_NETWORK)
def test_without_a_network_nothing_is_fetched(hub, fault):
    hub.fault = no_network(fault)
    with pytest.raises(WeightsError, match=r"nobody/nothing: cannot be fetched from .*; try again") as caught:
        find("nobody/nothing", download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", NO_NETWORK)
@pytest.mark.parametrize("whole", [True, False])
def test_without_a_network_a_model_that_was_fetched_is_used(
    saved, tmp_path, monkeypatch, caplog, fault, whole
):
    """With the hub's own library and a cache laid out as it does."""
    asked = []

    def model_info(self, name, **_):
        asked.append(name)
        raise no_network(fault)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    kept = tmp_path / "models--someone--model"
    snapshot = kept / "snapshots" / ("a" * 40)
    shutil.copytree(saved, snapshot)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(snapshot.name)
    if not whole:
        (snapshot / UNET).unlink()
        with pytest.raises(WeightsError, match="cannot be fetched from"):
            find("someone/model", download=True)
        return
    with caplog.at_level("WARNING", "evenreel"):
        assert find("someone/model", download=True).path == snapshot
    assert asked == ["someone/model"]
    assert caplog.text.count("the copy on this machine is used") == 1


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
