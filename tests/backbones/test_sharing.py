"""One model, many threads: each gets what it would get alone, or a sentence."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from evenreel import EditSettings, load
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.settings import AdapterSettings
from evenreel.backbones import load_backbone
from evenreel.backbones.sharing import exclusive, loaded_once
from evenreel.errors import ResourceError, SettingsError
from evenreel.hosts.base import create_host
from evenreel.settings import GenerateSettings
from evenreel.training.adapter.objective import training_in
from evenreel.training.adapter.settings import EditLossSettings
from evenreel.workflows.editing.edit import edit_clip
from evenreel.workflows.editing.generate import generate_clip
from hosts.jobs import job_for

QUICK = {"prompt": "a red ball", "size": 32, "steps": 2}
HOSTS = ("frame", "vidtome", "text2video_zero", "tokenflow", "vid2vid_zero")
INVERSIONS = ({}, {"inversion": "null-text", "inversion_options": {"inner_steps": 1}})


@pytest.fixture(scope="module")
def clip(clip_with_sound):
    return load(clip_with_sound, 0, 2)


def at_once(calls):
    """What calls return, each in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_edits_in_threads_are_those_that_each_is_alone(tiny_folder, clip):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    before = dict(backbone.unet.attn_processors)

    def edited(**changes):
        return edit_clip(clip, EditSettings(**QUICK, **changes), backbone=backbone).frames

    def generated():
        return generate_clip(
            GenerateSettings(**QUICK, host="text2video_zero", frames=2), backbone=backbone
        ).frames

    calls = [lambda host=host: edited(host=host) for host in HOSTS]
    calls += [lambda options=options: edited(host="frame", **options) for options in INVERSIONS]
    calls += [generated]
    alone = [call() for call in calls]
    for together, wanted in zip(at_once(calls), alone, strict=True):
        assert torch.equal(together, wanted)
    assert backbone.unet.attn_processors == before


def test_a_model_that_threads_open_together_is_loaded_once(tiny_folder):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    networks = at_once([lambda: (backbone.unet, backbone.vae, backbone.text)] * 4)
    assert all(parts == networks[0] for parts in networks)


def test_models_that_threads_open_side_by_side_are_whole(tiny_folder):
    def weights():
        return load_backbone(str(tiny_folder), device="cpu").unet.state_dict()

    first, *others = at_once([weights] * 4)
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_a_property_is_computed_once():
    class Thing:
        count = 0

        @loaded_once
        def slow(self):
            Thing.count += 1
            Event().wait(0.05)
            return object()

    thing = Thing()
    assert len(set(at_once([lambda: thing.slow] * 4))) == 1
    assert Thing.count == 1


def test_a_call_waits_for_whom_a_session_belongs_to(tiny_folder):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    job = job_for(backbone, 2)
    latents = torch.ones(2, 4, 8, 8)

    @torch.no_grad()
    def predicted():
        return backbone.predict_noise(latents, 500, job.prompt_embeds)

    wanted = predicted()
    with ThreadPoolExecutor(1) as pool:
        with create_host("text2video_zero").attach(backbone, job):
            told = pool.submit(predicted)
            Event().wait(0.05)
            assert not told.done()
        assert torch.equal(told.result(), wanted)


@pytest.mark.parametrize("host", HOSTS)
def test_a_second_session_inside_the_first_is_refused(tiny_folder, host):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    job = job_for(backbone, 2)
    with create_host("frame").attach(backbone, job) as session:
        with (
            pytest.raises(SettingsError, match="at work on this model"),
            create_host(host).attach(backbone, job),
        ):
            pass
        session.start()
    with create_host(host).attach(backbone, job):
        pass


def test_a_model_in_training_is_refused_to_others_and_free_afterwards(tiny_folder, clip):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    adapter = Adapter.of(backbone, AdapterSettings(tokens=None))

    def edited():
        return edit_clip(clip, EditSettings(**QUICK, host="frame"), backbone=backbone).frames

    wanted = edited()
    with training_in(backbone, adapter, EditLossSettings()):
        with pytest.raises(ResourceError, match="trained with in another thread"):
            at_once([edited])
        assert torch.equal(
            edited(), wanted
        )  # the trainer's own thread may look at what it has learnt (nothing yet)
    assert torch.equal(at_once([edited])[0], wanted)


def test_who_waits_while_a_training_begins_is_told_too(monkeypatch):
    class Network:
        pass

    monkeypatch.setattr("evenreel.backbones.sharing.POLL_SECONDS", 0.01)
    network, waiting = Network(), Event()

    def late():
        waiting.set()
        with exclusive(network):
            return

    with ThreadPoolExecutor(1) as pool, exclusive(network):
        told = pool.submit(late)
        waiting.wait()
        with exclusive(network, training=True), pytest.raises(ResourceError, match="in another thread"):
            told.result()
