"""What saves time in edits: off is bit for bit off, and each does what it says."""

import dataclasses

import pytest
import torch

from evenreel import EditSettings, GenerateSettings
from evenreel.backbones import load_backbone
from evenreel.backbones.base import Guidance, QuickEdit
from evenreel.backbones.deep_features import is_given
from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host
from evenreel.progress import silent
from evenreel.registry import HOSTS, names
from evenreel.settings import read
from evenreel.workflows.editing.additions.motion import MotionInUse
from evenreel.workflows.editing.as_then import settings_of_then
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.setup import idle

TOLD = {"prompt": "a star", "source_prompt": "a disc", "keep": "off", "motion": "off", "batch": 2}


@pytest.fixture
def tiny(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def latents():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def pipeline(backbone, host="frame", motion=None, **changes):
    settings = EditSettings(**{**TOLD, "steps": 3, **changes}, host=host)
    made = create_host(host, settings.host_options)
    return Pipeline(backbone, made, settings, silent, Stopwatch(backbone.device), motion=motion)


@pytest.fixture
def rows(tiny, monkeypatch):
    """Rows of every network call."""
    told, predict = [], tiny.predict_noise
    monkeypatch.setattr(
        tiny, "predict_noise", lambda latents, *more: told.append(len(latents)) or predict(latents, *more)
    )
    return told


@pytest.mark.parametrize("host", sorted(names(HOSTS)))
def test_guidance_at_all_levels_is_no_interval_bit_for_bit(tiny, latents, host):
    whole = pipeline(tiny, host, guidance_interval=(0.0, 1.0)).edit(latents)
    assert torch.equal(whole, pipeline(tiny, host).edit(latents))


@pytest.mark.parametrize("host", sorted(names(HOSTS)))
def test_an_interval_that_holds_no_step_is_an_edit_without_guidance(tiny, latents, host):
    empty = pipeline(tiny, host, guidance_interval=(0.0, 0.0)).edit(latents)
    assert torch.equal(empty, pipeline(tiny, host, guidance_scale=1.0).edit(latents))


def test_outside_of_the_interval_a_row_is_left_out(tiny, latents, rows):
    timesteps = tiny.schedule.timesteps(3)
    start = (timesteps[1] + 1) / len(tiny.schedule.alphas_cumprod)
    pipeline(tiny, guidance_interval=(start, 1.0)).edit(latents)
    assert rows == [3 * len(latents), 2 * len(latents), 2 * len(latents)]


def test_ends_of_the_interval_belong_to_it(tiny, latents, rows):
    trained = len(tiny.schedule.alphas_cumprod)
    timesteps = tiny.schedule.timesteps(3)
    interval = timesteps[1] / trained, timesteps[0] / trained
    pipeline(tiny, guidance_interval=interval).edit(latents)
    assert [count // len(latents) for count in rows] == [3, 3, 2]


@pytest.mark.parametrize("host", sorted(names(HOSTS)))
def test_a_group_of_one_step_shares_nothing_bit_for_bit(tiny, latents, host):
    assert torch.equal(
        pipeline(tiny, host, cache_interval=1).edit(latents), pipeline(tiny, host).edit(latents)
    )


@pytest.mark.parametrize("host", sorted(names(HOSTS)))
@pytest.mark.parametrize("inversion", ["flow-edit", "ddim"])
def test_every_host_leaves_deep_blocks_out_at_every_other_step(tiny, latents, host, inversion):
    computed = []
    with pytest.MonkeyPatch.context() as patch:
        predict = tiny.predict_noise
        patch.setattr(
            tiny,
            "predict_noise",
            lambda latents, timestep, *more: (
                computed.append((timestep, is_given(tiny.unet))) or predict(latents, timestep, *more)
            ),
        )
        told = {"inversion": inversion, "steps": 4}
        shared = pipeline(tiny, host, **told, cache_interval=2).edit(latents)
        whole = pipeline(tiny, host, **told).edit(latents)
    assert {timestep for timestep, without in computed if without} == set(tiny.schedule.timesteps(4)[1::2])
    assert not torch.equal(shared, whole)
    assert (shared - whole).norm() < whole.norm(), "it is no other clip"


@pytest.mark.parametrize(
    "interval", [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1), (0.3,), "0.3", (float("nan"), 1.0)]
)
def test_intervals_that_cannot_be(interval):
    with pytest.raises(SettingsError, match="guidance_interval must be"):
        EditSettings.from_json({"prompt": "a star", "guidance_interval": interval})


QUICK = QuickEdit(steps=2, guidance_interval=(0.5, 1.0))


def measured(tiny, **changes):
    """A pipeline as the one that QuickEdit was measured with, as far as settings say; motion is not switched on."""
    tiny.guidance = Guidance(quick_edit=QUICK)
    told = {key: value for key, value in TOLD.items() if key != "motion"}
    settings = read(EditSettings, {**told, "host": "frame", **changes}, "an edit")
    motion = MotionInUse.__new__(MotionInUse)
    host = create_host(settings.host, settings.host_options)
    return Pipeline(tiny, host, settings, silent, Stopwatch(tiny.device), motion=motion)


def test_what_is_left_to_the_model_is_its_own(tiny):
    found = measured(tiny)
    assert (found.steps, found.guidance_interval) == (2, (0.5, 1.0))
    told = measured(tiny, steps=7, guidance_interval=(0.0, 0.5))
    assert (told.steps, told.guidance_interval) == (7, (0.0, 0.5))


@pytest.mark.parametrize("changes", [{"exact": True}, {"host": "vidtome"}, {"inversion": "fixed-point"}])
def test_where_it_was_not_measured_edits_are_as_they_were(tiny, changes):
    found = measured(tiny, **changes)
    assert (found.steps, found.guidance_interval, found.guided_timesteps) == (25, (0.0, 1.0), None)
    assert dataclasses.replace(measured(tiny), motion=None).steps == 25


def test_exact_is_the_settings_without_levers_bit_for_bit(tiny, latents):
    tiny.guidance = Guidance(quick_edit=QUICK)
    exact = pipeline(tiny, steps=None, exact=True).edit(latents)
    off = pipeline(tiny, steps=25, guidance_interval=(0.0, 1.0), dtype="float32").edit(latents)
    assert torch.equal(exact, off)


def test_records_of_before_keep_what_they_had():
    machine = {"dtype": "float32"}
    told = {"prompt": "a star", "steps": 25, "dtype": "auto", "host": "frame", "inversion": "flow-edit"}
    settings = settings_of_then({"settings": told, "machine": machine}, from_text=False)
    assert (settings.steps, settings.guidance_interval, settings.dtype) == (25, (0.0, 1.0), "float32")
    assert settings_of_then({"settings": told}, from_text=False).dtype == "auto"


@pytest.mark.parametrize(("preset", "steps", "cache_interval"), [("fast", 20, 2), ("fastest", 12, 3)])
def test_a_preset_tells_what_is_not_told(preset, steps, cache_interval):
    fast = EditSettings(**TOLD, preset=preset)
    assert (fast.steps, fast.guidance_interval, fast.cache_interval) == (steps, (0.3, 1.0), cache_interval)
    assert EditSettings.from_json(fast.to_json()) == fast


def test_what_is_told_holds_in_a_preset():
    other = EditSettings(**TOLD, preset="fast", steps=30, cache_interval=3, guidance_interval=(0.0, 1.0))
    assert (other.steps, other.guidance_interval, other.cache_interval) == (30, (0.0, 1.0), 3)
    assert EditSettings(**TOLD, preset="fast", cache_interval=1).cache_interval == 2  # as help says


@pytest.mark.parametrize("preset", ["fast", "fastest"])
def test_a_preset_that_cannot_be_is_refused(preset):
    with pytest.raises(SettingsError, match=f"preset {preset} and .* ask for opposite things"):
        EditSettings(**TOLD, preset=preset, exact=True)
    with pytest.raises(SettingsError, match=f"preset {preset} was measured in edits alone"):
        GenerateSettings(prompt="a star", preset=preset)


@pytest.mark.parametrize(
    ("host", "preset", "said"), [("frame", "fastest", 1), ("frame", "fast", 0), ("vidtome", "fastest", 0)]
)
def test_the_fastest_preset_in_the_host_frame_is_spoken_of(host, preset, said):
    told = EditSettings(**TOLD, preset=preset, host=host)
    occasion = idle.occasion_of(told, 2.5, 8)
    found = idle.notices(told, create_host(host), None, 2.5, 12, occasion)
    assert sum("can break shapes in the host frame" in notice for notice in found) == said
