"""`train motion`: from shards to a folder that edits and diffusers take, cut and gone on with, and its report."""

import dataclasses
import json

import pytest
import torch
from diffusers import MotionAdapter

from evenreel.backbones import load_backbone
from evenreel.errors import SettingsError, WeightsError
from evenreel.motion.folder import load_motion
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.motion.draws import ClipDraws
from evenreel.training.motion.settings import MotionTrainingSettings
from evenreel.workflows.training import motion
from evenreel.workflows.training.motion import train_motion
from evenreel.workflows.training.motion_report import report_motion
from training.making import built, clips_folder

LOOP = LoopSettings(steps=3, learning_rate=1e-2, warmup=1, decay=0.0, dtype="float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion-data")
    clips_folder(folder / "clips", count=2, frames=9)
    built(folder / "clips", folder / "shards", DataSettings(size=(64, 64), frames=5, gap=1, per_clip=2))
    return folder / "shards"


@pytest.fixture
def settings(tiny_folder):
    return MotionTrainingSettings(model=str(tiny_folder), loop=LOOP, device="cpu", max_frames=8)


def test_a_training_that_is_cut_goes_on_to_the_same_end(data, tmp_path, settings):
    whole = train_motion(data, tmp_path / "whole", settings)
    short = dataclasses.replace(settings, loop=dataclasses.replace(LOOP, steps=2))
    train_motion(data, tmp_path / "cut", short)
    cut = train_motion(data, tmp_path / "cut", settings)
    one, two = load_motion(whole).state_dict(), load_motion(cut).state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert any(bool(value.any()) for name, value in one.items() if ".proj_out." in name)
    assert MotionAdapter.from_pretrained(whole).config["motion_max_seq_length"] == 8

    other = dataclasses.replace(settings, clips=1)
    with pytest.raises(SettingsError, match="begun with clips 2, and 1 is asked for"):
        train_motion(data, tmp_path / "cut", other)


def test_the_model_is_as_it_was(data, tmp_path, settings, monkeypatch):
    backbone = load_backbone(settings.model, device="cpu")
    before = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    monkeypatch.setattr(motion, "load_backbone", lambda *_, **__: backbone)
    train_motion(data, tmp_path / "out", settings)
    assert all(torch.equal(value, before[name]) for name, value in backbone.unet.state_dict().items())
    assert not any(module._forward_hooks for module in backbone.unet.modules())


def test_a_training_goes_on_from_modules(data, tmp_path, settings):
    first = train_motion(data, tmp_path / "first", settings)
    still = dataclasses.replace(
        settings, start=str(first), loop=dataclasses.replace(LOOP, steps=1, learning_rate=1e-9)
    )
    second = train_motion(data, tmp_path / "second", still)
    before = load_motion(first).state_dict()
    for name, value in load_motion(second).state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)


def test_micro_batches_are_clips_of_several_rates(data, settings):
    shards, backbone = ShardedData(data), load_backbone(settings.model, device="cpu")
    encoded = Encoded(backbone, None)
    draw = ClipDraws(lambda number: shards.batch(number, 2), encoded, settings)
    seen = set()
    for number in range(12):
        batch = draw(number)
        whole = encoded.latents(shards.batch(number, 2)).unflatten(0, (2, 5))
        frames = batch.latents.shape[1]
        stride = {5: 1, 3: 2}[frames]
        assert torch.equal(batch.latents, whole[:, ::stride])
        assert batch.noise.shape == batch.latents.shape
        assert not torch.equal(batch.noise[0, 0], batch.noise[0, 1])
        first, second = batch.timesteps.tolist()
        assert 0 <= first < 500 <= second < 1000
        again = draw(number)
        assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
        seen.add(stride)
    assert seen == {1, 2}


def test_the_report(data, tmp_path, settings):
    train_motion(data, tmp_path / "out", settings)
    path, figures = report_motion(data, tmp_path / "out", settings, batches=1, steps=1)
    assert [each.level for each in figures] == [0.1, 0.3, 0.5, 0.7, 0.9]
    # trained, however little: with modules, without and shuffled are three different predictions
    assert all(len({each.base, each.motion, each.shuffled}) == 3 for each in figures)
    text = path.read_text()
    assert f"{figures[0].motion:.4f}" in text
    assert (tmp_path / "out" / "samples.png").is_file()


def test_what_cannot_be_trained_is_refused(data, tmp_path, settings):
    with pytest.raises(SettingsError, match="no clip of stride 5"):
        train_motion(data, tmp_path / "a", dataclasses.replace(settings, strides=(1, 5)))
    with pytest.raises(SettingsError, match="see at most 4"):
        train_motion(data, tmp_path / "b", dataclasses.replace(settings, max_frames=4))
    with pytest.raises(WeightsError, match="there are no motion modules"):
        report_motion(data, tmp_path / "c", settings)
    for wrong in (
        {"clips": 0},
        {"strides": ()},
        {"strides": (0,)},
        {"max_frames": 1},
        {"unconditional": 2.0},
    ):
        with pytest.raises(SettingsError):
            dataclasses.replace(settings, **wrong)


def test_settings_of_a_training_are_kept(data, tmp_path, settings):
    train_motion(data, tmp_path / "out", settings)
    kept = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert kept["strides"] == [1, 2]
    assert len(kept["data"]) == 1
