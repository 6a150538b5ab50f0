"""Every registered backbone, and one of another package, keeps what `Backbone` promises."""

import re

import pytest
import torch

import evenreel
from evenreel import registry
from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.base import PromptReader
from evenreel.diffusion.schedule import NoiseSchedule

STRANGER, OF_ANOTHER_KIND = "calm", "pixels"
LOCATIONS: dict[str, str] = {OF_ANOTHER_KIND: "7"}
"""Where backbones of other packages find their model: write yours here if it needs a location."""
FOLDERS = {"stable-diffusion": "tiny_folder", STRANGER: "tiny_folder"}
"""Backbones that need a folder: the fixture that makes it."""


@pytest.fixture(scope="module", params=[*registry.names(registry.BACKBONES), STRANGER, OF_ANOTHER_KIND])
def backbone(request):
    """Every backbone by its name, made through the registry."""
    locations = dict(LOCATIONS)
    if request.param in FOLDERS:
        locations[request.param] = request.getfixturevalue(FOLDERS[request.param])
    where = f":{locations[request.param]}" if request.param in locations else ""
    with pytest.MonkeyPatch.context() as patch:
        if request.param in (STRANGER, OF_ANOTHER_KIND):
            patch.syspath_prepend(request.getfixturevalue("installed"))
        yield load_backbone(f"{request.param}{where}", device="cpu", dtype="float32")


def pictures(backbone, count=3, seed=0):
    sides = backbone.size_multiple * 2, backbone.size_multiple * 3
    return torch.rand(count, 3, *sides, generator=torch.Generator().manual_seed(seed))


def test_what_it_says_of_itself(backbone):
    assert isinstance(backbone, Backbone)
    assert isinstance(backbone.schedule, NoiseSchedule)
    assert backbone.name
    assert str(backbone.device) == "cpu"
    assert backbone.dtype == torch.float32
    assert backbone.native_size % backbone.size_multiple == 0
    assert min(backbone.guidance.edit, backbone.guidance.generate) >= 1
    assert all(re.fullmatch("[0-9a-f]{32,}", known) for known in backbone.known_as())
    assert next(iter(backbone.known_as())) == backbone.fingerprint
    assert isinstance(backbone.notices, tuple)
    assert all(isinstance(name, str) for name in backbone.options)
    assert backbone.text is None or isinstance(backbone.text, PromptReader)


def test_frames_and_latents(backbone):
    frames = pictures(backbone)
    latents = backbone.encode(frames)
    assert latents.dtype == torch.float32
    assert len(latents) == len(frames)
    assert torch.equal(backbone.encode(frames), latents)
    again = backbone.decode(latents)
    assert again.shape == frames.shape
    assert again.dtype == torch.float32
    assert 0 <= float(again.min()) <= float(again.max()) <= 1


def test_each_prompt_serves_as_many_consecutive_latents(backbone):
    prompts = backbone.embed(["a red ball", ""])
    assert (len(prompts), prompts.ndim, prompts.dtype) == (2, 3, torch.float32)
    latents = backbone.encode(pictures(backbone, 4))
    both = backbone.predict_noise(latents, 301, prompts)
    assert (both.shape, both.dtype) == (latents.shape, torch.float32)
    for prompt, rows in enumerate((slice(0, 2), slice(2, 4))):
        own = backbone.predict_noise(latents[rows], 301, prompts[prompt : prompt + 1])
        difference = float((own - both[rows]).abs().max())
        assert difference <= 1e-4 * float(both.abs().max())
    assert not torch.equal(both, backbone.predict_noise(latents, 301, prompts.flip(0)))


def test_an_edit_says_of_it_what_repeats_it(backbone, clip_with_sound):
    clip = evenreel.load(clip_with_sound)
    settings = {"prompt": "a ball", "steps": 2, "host": "frame", "inversion": "ddim", "size": (64, 64)}
    edited = [evenreel.edit(clip, backbone=backbone, **settings) for _ in range(2)]
    assert torch.equal(edited[0].frames, edited[1].frames)
    assert edited[0].record["model"]["fingerprint"] == backbone.fingerprint
