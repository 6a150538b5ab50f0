"""A backbone that has what `Backbone` demands and nothing else is edited with; nothing more is asked of one."""

import ast
from collections import defaultdict
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import evenreel
from evenreel import registry
from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.base import PromptReader
from evenreel.errors import PluginError, SettingsError
from evenreel.workflows.editing.records.profile import metered
from evenreel.workflows.editing.records.resource_use import Stopwatch

SOURCE = Path(evenreel.__file__).parent
SETTINGS = {
    "prompt": "a ball",
    "steps": 2,
    "host": "frame",
    "host_options": {"p2p_cross": 0.0},  # which asks a model for its tokens
    "inversion": "ddim",
    "guidance_scale": 3.0,
}


class Plain(Backbone):
    """Another model's networks, behind the members that are abstract or have no value."""

    def __init__(self, inner):
        self.inner = inner
        self.name, self.schedule = "plain", inner.schedule
        self.device, self.dtype = inner.device, inner.dtype
        self.size_multiple, self.native_size = inner.size_multiple, inner.native_size

    @property
    def unet(self):
        return self.inner.unet

    @property
    def fingerprint(self):
        return "0123456789abcdef" * 4

    def encode(self, frames):
        return self.inner.encode(frames)

    def decode(self, latents):
        return self.inner.decode(latents)

    def embed(self, prompts):
        return self.inner.embed(prompts)

    def predict_noise(self, latents, timestep, prompt_embeds, residuals=None):
        assert residuals is None
        return self.inner.predict_noise(latents, timestep, prompt_embeds)


@pytest.fixture
def plain(tiny):
    return Plain(tiny)


@pytest.fixture
def clip(clip_with_sound):
    return evenreel.load(clip_with_sound)


def test_an_edit_with_the_members_that_are_demanded(plain, tiny, clip):
    edited = evenreel.edit(clip, backbone=plain, source_prompt="a star", **SETTINGS)
    theirs = evenreel.edit(clip, backbone=tiny, source_prompt="a star", **SETTINGS)
    assert torch.equal(edited.frames, theirs.frames)
    model = edited.record["model"]
    assert model["fingerprint"] == plain.fingerprint
    assert list(plain.known_as()) == [plain.fingerprint] * 3


def test_a_profile_counts_what_it_has(plain):
    with metered(plain, Stopwatch(plain.device)) as profile:
        plain.predict_noise(torch.zeros(1, 4, 8, 8), 1, plain.embed([""]))
    assert profile


def test_it_takes_no_loras_and_no_embeddings(plain, clip):
    for told in ({"lora": ("a.safetensors",)}, {"embedding": ("a.safetensors",)}):
        with pytest.raises(
            SettingsError, match="model plain takes no LoRAs and no embeddings; leave them out"
        ):
            evenreel.edit(clip, backbone=plain, prompt="a ball", steps=1, **told)


def test_what_a_host_asks_of_it_and_it_does_not_tell(plain, clip):
    asks = {**SETTINGS, "host_options": {}, "source_prompt": "a star"}
    with pytest.raises(SettingsError, match="model plain does not say which tokens make up a word"):
        evenreel.edit(clip, backbone=plain, **asks)


def test_a_plug_in_that_gives_something_else(monkeypatch):
    entry = EntryPoint("odd", "builtins:dict", registry.BACKBONES)
    monkeypatch.setattr(registry, "names", lambda group: ("odd",))
    monkeypatch.setattr(registry, "find", lambda group, name: lambda location, **told: {entry: told})
    with pytest.raises(PluginError, match=r"'odd' gave a dict, and evenreel\.plugins\.Backbone is wanted"):
        load_backbone("odd:x", device="cpu")


def asked_of_backbones():
    """By attribute, the places at which our code asks it of a `backbone`."""
    found = defaultdict(set)
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                value, name = node.value, node.attr
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
                value, name = node.args[0], getattr(node.args[1], "value", "any name")
            else:
                continue
            if getattr(value, "id", getattr(value, "attr", "")).removeprefix("_") == "backbone":
                found[name].add(f"{file.relative_to(SOURCE)}:{node.lineno}")
    return found


def test_nothing_else_is_asked_of_one():
    declared = {*dir(Backbone), *Backbone.__annotations__}
    found = asked_of_backbones()
    assert {"unet", "notices", "text"} <= found.keys()
    assert {name: places for name, places in found.items() if name not in declared} == {}


def test_what_it_offers_has_the_types_of_its_declaration(tiny):
    assert isinstance(tiny.text, PromptReader)
    assert isinstance(tiny.notices, tuple)
    assert (tiny.family, tiny.mixed, dict(tiny.options)) == ("", False, {})
    assert len({*tiny.known_as()}) == 3
    assert tiny.dtype == torch.float32
