"""Models that have a name of their own: the packaged one, and those of plug-ins."""

import hashlib
import shutil
from importlib.metadata import EntryPoint

import pytest
import torch

from backbones.refusing import edit_json, load_all, refused
from evenreel import registry
from evenreel.backbones import load_backbone, mini
from evenreel.errors import PluginError, WeightsError


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
    backbone = load_backbone(f"toy:{saved}", device="cpu", dtype=torch.bfloat16)
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
