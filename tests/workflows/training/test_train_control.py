"""`train control`: from shards to a folder that edits and diffusers take, cut and gone on with, and its report."""

import dataclasses

import pytest
import torch
from diffusers import ControlNetModel

from evenreel.backbones import load_backbone
from evenreel.backbones.control import load_control
from evenreel.errors import DataError, SettingsError, WeightsError
from evenreel.ops.nearness import nearness
from evenreel.training.control.draws import maps_of
from evenreel.training.control.settings import ControlTrainingSettings
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.shards import ShardedData
from evenreel.training.data.sources import world_source
from evenreel.training.loop_settings import LoopSettings
from evenreel.workflows.training import control
from evenreel.workflows.training.control import report_control, train_control
from evenreel.workflows.training.data_build import build
from evenreel.world import Scene, render

LOOP = LoopSettings(steps=3, learning_rate=1e-2, warmup=1, decay=0.0, dtype="float32")
MAPS = ("depth", "pose")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control-data") / "shards"
    settings = DataSettings(size=(64, 64), frames=2, per_clip=1, control=MAPS, clips_per_shard=64)
    build(world_source(40, first_seed=0, objects=None, frame_count=8), folder, settings, workers=1)
    return folder


@pytest.fixture
def settings(tiny_folder):
    return ControlTrainingSettings(
        model=str(tiny_folder), kind="pose", loop=LOOP, device="cpu", pictures=2, unconditional=0.0
    )


def test_poses_and_depths_are_those_of_the_scene_and_nobody_is_left_out(data):
    shards = ShardedData(data, maps=MAPS)
    assert 0 < len(shards) < 40
    skipped = shards.manifest.skipped
    assert len(skipped) + len(shards) == 40
    assert all("no person" in str(each) for each in skipped)
    batch = shards.batch(0, 2)
    rows = torch.arange(2), torch.tensor([1, 0])
    for kind in MAPS:
        shown = maps_of(kind, batch, rows)
        assert (shown.shape, shown.dtype) == ((2, 3, 64, 64), torch.uint8)
        for place, (facts, frame) in enumerate(zip(batch.facts, (1, 0), strict=True)):
            scene = Scene.from_json(facts["scene"])
            clip = render(scene, [facts["frames"][frame]], 64)
            if kind == "depth":
                wanted = (nearness(clip.depth)[0] * 255).round().expand(3, -1, -1)
                assert (shown[place].float() - wanted).abs().max() <= 1
            else:
                assert shown[place].any()
    assert set(maps_of("canny", batch, rows).unique().tolist()) == {0, 255}


def test_a_training_that_is_cut_goes_on_to_the_same_end(data, tmp_path, settings):
    whole = train_control(data, tmp_path / "whole", settings)
    short = dataclasses.replace(settings, loop=dataclasses.replace(LOOP, steps=2))
    train_control(data, tmp_path / "cut", short)
    cut = train_control(data, tmp_path / "cut", settings)
    one, two = (ControlNetModel.from_pretrained(folder).state_dict() for folder in (whole, cut))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert any(bool(value.any()) for name, value in one.items() if "controlnet_mid_block" in name)

    other = dataclasses.replace(settings, kind="depth")
    with pytest.raises(SettingsError, match="begun with kind pose, and depth"):
        train_control(data, tmp_path / "cut", other)


def test_the_model_is_as_it_was_and_takes_the_controlnet(data, tmp_path, settings, monkeypatch):
    backbone = load_backbone(settings.model, device="cpu")
    before = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    monkeypatch.setattr(control, "load_backbone", lambda *_, **__: backbone)
    folder = train_control(data, tmp_path / "out", settings)
    assert all(torch.equal(value, before[name]) for name, value in backbone.unet.state_dict().items())
    net = load_control(str(folder), backbone).net

    still = dataclasses.replace(
        settings, start=str(folder), loop=dataclasses.replace(LOOP, steps=1, learning_rate=1e-9)
    )
    again = load_control(str(train_control(data, tmp_path / "again", still)), backbone).net
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=0, atol=1e-7)


def test_a_report_says_what_the_map_is_worth(data, tmp_path, settings):
    with pytest.raises(WeightsError, match="there is no ControlNet"):
        report_control(data, tmp_path / "out", settings)
    train_control(data, tmp_path / "out", settings)
    figures = report_control(data, tmp_path / "out", settings, batches=2)
    assert [each.level for each in figures] == list(control.LEVELS)
    assert all(each.base != each.control != each.other for each in figures)


def test_what_cannot_be_trained_is_a_sentence(data, tmp_path, settings):
    with pytest.raises(SettingsError, match="kind must be one of canny, depth, pose"):
        ControlTrainingSettings.told(kind="scribble")
    odd = tmp_path / "odd"
    build(
        world_source(2, first_seed=0, objects=None, frame_count=8),
        odd,
        DataSettings(size=(72, 64), per_clip=1),
        workers=1,
    )
    with pytest.raises(DataError, match="holds no pose maps"):
        train_control(odd, tmp_path / "a", settings)
    edges = dataclasses.replace(settings, kind="canny")
    with pytest.raises(SettingsError, match=r"72 x 64 px do not fit .* multiples of 16"):
        train_control(odd, tmp_path / "b", edges)
    large = tmp_path / "large"
    source = world_source(1, first_seed=0, objects=None, frame_count=8)
    build(source, large, DataSettings(size=(144, 128), per_clip=1), workers=1)
    with pytest.raises(
        SettingsError, match=r"144 x 128 px are far larger .* 64 x 64; build the data with size 64"
    ):
        train_control(large, tmp_path / "c", edges)
