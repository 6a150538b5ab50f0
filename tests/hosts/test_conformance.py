"""Every registered host under every inversion, by the code of an edit; and those of another package among them."""

import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel import registry
from evenreel.backbones import load_backbone
from evenreel.errors import PluginError, SettingsError
from evenreel.hosts.base import create_host
from evenreel.inversions.base import create_inversion
from evenreel.metrics.base import find, measure
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.progress import silent
from evenreel.settings import EditSettings
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.inspect.descriptions import describe_host, describe_inversion
from evenreel.workflows.inspect.doctor import examine
from hosts.jobs import random_latents
from tiny import sharp_backbone
from tiny_xl import save_tiny_xl

STRANGER, STRANGE_INVERSION = "neighbourly", "forward"

DEFAULT = EditSettings(prompt="x").inversion

SMALL = {
    "tokenflow": {"window": 2, "keyframes_together": 2},
    "vid2vid_zero": {"window": 2},
    "vidtome": {"chunk_size": 2},
}
"""Settings of hosts that let some frames see each other: so few that no batch is too small for them."""
QUICK = {"ddpm": {"skip": 0.5}, "null-text": {"inner_steps": 1}}
"""Options of inversions that show themselves within two steps."""


@pytest.fixture(params=[*registry.names(registry.HOSTS), STRANGER])
def host(request, monkeypatch):
    """Every host by its name, made through the registry."""
    if request.param == STRANGER:
        monkeypatch.syspath_prepend(request.getfixturevalue("installed"))
    return create_host(request.param, SMALL.get(request.param))


def edited(backbone, host, inversion, latents, *, batch):
    settings = EditSettings(
        prompt="a star",
        source_prompt="a ball",
        steps=2,
        batch=batch,
        inversion=inversion,
        inversion_options=QUICK.get(inversion, {}),
    )
    return Pipeline(backbone, host, settings, silent, Stopwatch(backbone.device)).edit(latents)


def state_of(unet):
    hooks = [
        hook
        for module in unet.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    return dict(unet.attn_processors), hooks


@pytest.fixture(params=[*registry.names(registry.INVERSIONS), STRANGE_INVERSION])
def inversion(request, monkeypatch):
    """Every inversion by its name."""
    if request.param == STRANGE_INVERSION:
        monkeypatch.syspath_prepend(request.getfixturevalue("installed"))
    return request.param


def test_an_edit(host, inversion, tiny):
    """Runs, gives every frame, repeats itself bit for bit, leaves nothing behind."""
    clip = random_latents(3)
    given, before = clip.clone(), state_of(tiny.unet)
    first = edited(tiny, host, inversion, clip, batch=2)
    assert first.shape == clip.shape
    assert first.dtype == clip.dtype
    assert torch.isfinite(first).all()
    assert len({frame.numpy().tobytes() for frame in first}) == len(clip)
    assert_apart(first, clip)

    torch.manual_seed(12345)  # the global generator must not matter
    assert torch.equal(edited(tiny, host, inversion, clip, batch=2), first)
    assert torch.equal(clip, given)
    assert state_of(tiny.unet) == before


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory):
    """A tiny random SD-XL in float64."""
    return sharp_backbone(save_tiny_xl(tmp_path_factory.mktemp("tiny-xl")))


def check_on_sdxl(host, inversion, tiny_xl):
    """The same in parts and whole, and nothing is left behind; return the result."""
    clip, before = random_latents(3), state_of(tiny_xl.unet)
    parts, whole = (edited(tiny_xl, host, inversion, clip, batch=batch) for batch in (2, 3))
    assert_close(parts, whole)
    assert_apart(whole, clip)
    assert state_of(tiny_xl.unet) == before
    return whole


@pytest.mark.parametrize("inversion", [DEFAULT, "fixed-point", "ddim"])
@pytest.mark.parametrize("host", registry.names(registry.HOSTS))
def test_every_host_on_sdxl(host, inversion, tiny_xl):
    check_on_sdxl(create_host(host, SMALL.get(host)), inversion, tiny_xl)


@pytest.mark.parametrize(
    "inversion", sorted({*registry.names(registry.INVERSIONS)} - {DEFAULT, "fixed-point", "ddim"})
)
def test_every_other_inversion_on_sdxl(inversion, tiny_xl):
    check_on_sdxl(create_host("frame"), inversion, tiny_xl)


def test_the_pooled_text_takes_part_in_edits(tiny_xl, monkeypatch):
    host, clip, own = create_host("frame"), random_latents(2), tiny_xl.embed
    whole = edited(tiny_xl, host, DEFAULT, clip, batch=2)

    def unpooled(prompts):
        embeds = own(prompts)
        embeds[:, -1] = 0
        return embeds

    monkeypatch.setattr(tiny_xl, "embed", unpooled)
    assert_apart(edited(tiny_xl, host, DEFAULT, clip, batch=2), whole)


def test_the_batch_does_not_matter_to_a_host(host, tiny):
    clip = random_latents(3)
    parts, whole = (edited(tiny, host, DEFAULT, clip, batch=batch) for batch in (2, 3))
    assert_close(parts, whole)


def test_a_call_holds_no_more_frames_than_the_batch(inversion, tiny, monkeypatch):
    rows, predict = [], tiny.predict_noise

    def seen(latents, *others, **more):
        rows.append(len(latents))
        return predict(latents, *others, **more)

    monkeypatch.setattr(tiny, "predict_noise", seen)
    edited(tiny, create_host("frame"), inversion, random_latents(5), batch=1)
    branches = 4  # of a frame: the source, with and without its prompt, and the edit with and without
    assert max(rows) <= branches


def test_the_batch_does_not_matter_to_an_inversion(inversion, tiny):
    host, clip = create_host("frame"), random_latents(3)
    parts, whole = (edited(tiny, host, inversion, clip, batch=batch) for batch in (2, 3))
    assert_close(parts, whole)


def test_inversions_differ(tiny, installed, monkeypatch):
    """Each inversion is another starting point, or another way from it."""
    monkeypatch.syspath_prepend(installed)
    names = registry.names(registry.INVERSIONS)
    assert STRANGE_INVERSION in names
    host, clip = create_host("frame"), random_latents(2)
    results = [edited(tiny, host, inversion, clip, batch=2) for inversion in names]
    for index, one in enumerate(results):
        for other in results[:index]:
            assert_apart(one, other)


def test_a_host_of_another_package_is_found_while_it_is_there(installed, monkeypatch):
    assert STRANGER not in registry.names(registry.HOSTS)
    with pytest.raises(PluginError, match=f"there is no host {STRANGER!r}"):
        create_host(STRANGER)
    with monkeypatch.context() as here:
        here.syspath_prepend(installed)
        assert STRANGER in registry.names(registry.HOSTS)
        assert create_host(STRANGER, {"share": 1}).share == 1.0
        described = describe_host(STRANGER)
        assert described.summary.startswith("Every frame by itself")
        assert [(one.name, one.default) for one in described.settings] == [("share", 0.25)]
        assert described.settings[0].meaning.startswith("Share of a frame's noise")
    assert STRANGER not in registry.names(registry.HOSTS)


def test_doctor_and_help_see_an_inversion_of_another_package(installed, monkeypatch):
    """On the same footing as a host."""
    with pytest.raises(PluginError, match=f"there is no inversion {STRANGE_INVERSION!r}"):
        describe_inversion(STRANGE_INVERSION)
    monkeypatch.syspath_prepend(installed)
    described = describe_inversion(STRANGE_INVERSION)
    assert described.summary.startswith("The forward process")
    assert [(one.name, one.default) for one in described.settings] == [("strength", 0.8)]
    found = {finding.name: finding.state for finding in examine()}
    assert found[f"inversion {STRANGE_INVERSION}"] == found[f"host {STRANGER}"] == "ok"
    with pytest.raises(SettingsError, match=r"forward\.strength must be above 0 and at most 1, got 0"):
        create_inversion(
            EditSettings(prompt="x", inversion=STRANGE_INVERSION, inversion_options={"strength": 0})
        )


def test_a_metric_and_a_backbone_of_another_package(installed, monkeypatch, tiny_folder):
    monkeypatch.syspath_prepend(installed)
    frames = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    inputs = Inputs()
    parts = cut(frames, frames * 0.5, length=2)
    found = measure(windows(parts, inputs), {"change": find("brightness_change")}, inputs)["change"]
    assert found.value == pytest.approx(float((frames * 0.5).mean((1, 2, 3)).mean()), rel=1e-5)
    backbone = load_backbone(f"calm:{tiny_folder}", device="cpu")
    assert backbone.name == f"calm:{tiny_folder}"
    assert (backbone.guidance.edit, backbone.guidance.generate) == (3.0, 5.0)
