"""Where in an edit an adapter is at work."""

from dataclasses import replace

import pytest
import torch

from closeness import assert_apart
from evenreel.adapters import checkpoint
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin
from evenreel.adapters.settings import AdapterSettings, LoraSettings
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.hosts.base import create_host
from evenreel.progress import silent
from evenreel.settings import AdapterUse, EditSettings
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


def adapter_file(backbone, path, *, in_inversion):
    settings = AdapterSettings(
        lora=LoraSettings(scope="all"),
        tokens=None,
        scale=1.0,
        inference_window=Window(0.0, 1.0),
        in_inversion=in_inversion,
    )
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter.of(backbone, settings, generator=generator)
    with torch.no_grad():
        for name in adapter.lora.shapes:
            second = adapter.lora.factors(name)[1]
            second.copy_(0.3 * torch.randn(second.shape, generator=generator))
    checkpoint.save(adapter, path, Origin(base=backbone.fingerprint, licence="Apache-2.0"))
    return str(path)


@pytest.mark.parametrize("in_inversion", [True, False])
def test_an_adapter_is_in_the_inversion_if_it_is_made_for_it(backbone, tmp_path, in_inversion):
    """What the source is inverted to, and the edit, with the adapter and without."""
    plain = EditSettings(prompt="a star", steps=3, host="frame", inversion="ddim", device="cpu")
    path = adapter_file(backbone, tmp_path / "a.safetensors", in_inversion=in_inversion)
    assert checkpoint.load(path, base=None)[0].settings.in_inversion == in_inversion
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    inverted, edited = [], []
    for settings in (plain, replace(plain, adapter=AdapterUse(file=path))):
        adapter = AdapterInUse.opened(settings.adapter, backbone, with_source=True)
        host, watch = create_host("frame"), Stopwatch(backbone.device)
        pipeline = Pipeline(backbone, host, settings, silent, watch, adapter=adapter)
        text = backbone.embed([""])
        with pipeline._prepared(latents, text, text, None) as (_, found):
            inverted.append(found.trajectory.read(found.timesteps[0]).clone())
        edited.append(pipeline.edit(latents))
    assert torch.equal(*inverted) != in_inversion
    assert_apart(*edited)
