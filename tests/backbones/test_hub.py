"""Models of the hub: what is fetched of them, what is not, and what is said where nothing can be."""

import json
import shutil
from fnmatch import fnmatch
from importlib import import_module
from types import SimpleNamespace

import pytest

from backbones.refusing import UNET, load_all, refused
from evenreel.backbones.hub import find
from evenreel.errors import WeightsError


def test_absent_hub_models_say_what_to_fetch(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("somebody/some-model", r"hf download somebody/some-model .*about 4 GB.*kept in ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("somebody/some-model", r"HF_HUB_OFFLINE is set")


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
