"""What is done with a clip: every kind of item on the packaged model, on clips so short that it takes seconds."""

import json
import multiprocessing

import pytest
import torch

from evenreel.adapters import checkpoint
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.settings import AdapterSettings
from evenreel.backbones import load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.errors import SettingsError
from evenreel.study import item_log
from evenreel.study.experiments.conditions import SEEDLESS
from evenreel.study.items import Condition, Experiment, Item
from evenreel.study.run import actions, item_run, maps, runner, subjects
from evenreel.study.run.fingerprints import fingerprints
from evenreel.study.settings import StudySettings
from evenreel.workflows.world.edits import METRICS


def save_random_adapter(backbone, path):
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter.of(backbone, AdapterSettings(tokens=None), generator=generator)
    with torch.no_grad():
        for value in adapter.parameters():
            value.normal_(0, 0.2, generator=generator)
    checkpoint.save(adapter, path, checkpoint.Origin(base=backbone.fingerprint, licence="Apache-2.0"))


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    backbone = load_backbone("mini", device="cpu")
    adapter = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    save_random_adapter(backbone, adapter)
    return actions.Context(backbone, load_clip("mini", device="cpu"), {"mini": adapter})


def item(kind, *, clip=40_000, seed=0, frames=2, steps=2, **options):
    return Item(Condition("a", kind, options), clip, seed, frames, steps)


def test_an_edit_has_all_figures_and_the_likeness_at_each_step(context):
    outcome = actions.edit(context, item("edit", host="frame", steps=3))
    assert outcome.figures.keys() == METRICS.keys() | {"similarity"}
    assert outcome.series["timestep"] == [667.0, 334.0, 1.0]
    assert all(0 < value <= 1 for value in outcome.series["similarity"])
    assert outcome.figures["similarity"] == pytest.approx(sum(outcome.series["similarity"]) / 3)
    missing = {name for name, value in outcome.figures.items() if value is None}
    assert missing <= {"flicker"}


def test_looking_on_changes_nothing(context):
    world = actions.WorldEdit.held_out(40_000, 2)
    settings = world.settings(host="vidtome", steps=2)
    plain = actions.edit_frames(context.backbone, world.source.frames, settings)
    seen = []
    watched = actions.edit_frames(
        context.backbone, world.source.frames, settings, lambda timestep, latents: seen.append(timestep)
    )
    assert torch.equal(plain, watched)
    assert seen == [501, 1]


@pytest.fixture
def unmeasured(monkeypatch):
    """Figures take longer than the edit, and are not looked at."""
    monkeypatch.setattr(subjects, "measured", lambda *_: {})


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("host", sorted(SEEDLESS))
def test_hosts_that_draw_nothing(context, host):
    one, other = (
        actions.edit(context, item("edit", host=host, inversion="ddim", seed=seed)).picture for seed in (0, 1)
    )
    assert torch.equal(one, other)


@pytest.mark.usefixtures("unmeasured")
def test_another_seed_is_another_edit_elsewhere(context):
    one, other = (
        actions.edit(context, item("edit", host="frame", inversion="ddpm", seed=seed)).picture
        for seed in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("host", ["text2video_zero", "frame"])
def test_a_clip_is_drawn_after_its_maps(context, host, request):
    """The same again, and another with another map, another seed and an adapter."""

    def picture(**options):
        return actions.drawn(context, item("drawn", host=host, **options)).picture

    assert actions.drawn(context, item("drawn", host=host)).figures.keys() == METRICS.keys()
    request.getfixturevalue("unmeasured")
    plain = picture()
    drawn = [picture(control=kind) for kind in ("canny", "depth", "pose")]
    assert torch.equal(picture(control="depth"), drawn[1])
    others = [plain, *drawn, picture(control="depth", adapter="mini", adapter_window="0:1")]
    for number, one in enumerate(others):
        assert one.shape == (2, 3, 128, 128)
        assert all((one - other).abs().max() > 0.02 for other in others[number + 1 :])


def test_what_controls_are_shown():
    world = actions.WorldEdit.of_a_person(40_000, 3)
    assert world.scene.attribute("shape") == "figure"
    shown = {kind: actions.maps_of(world.scene, world.source, kind) for kind in ("canny", "depth", "pose")}
    assert all(maps.shape == (3, 3, 128, 128) for maps in shown.values())
    assert torch.equal(shown["canny"], world.source.frames)
    person = world.source.masks[:, -1] > 0.5
    near = shown["depth"][:, 0]
    assert near.amax() == 1
    assert near[person].min() > near[~person].max()
    assert shown["pose"].amax(1)[~person].mean() < shown["pose"].amax(1)[person].mean()
    with pytest.raises(SettingsError, match="canny, depth or pose, got 'smoke'"):
        actions.maps_of(world.scene, world.source, "smoke")


def test_attention_maps_and_the_model_as_it_was(context):
    before = dict(context.backbone.unet.attn_processors)
    outcome = actions.attention(context, item("attention", host="frame", timesteps=[501, 1]))
    assert outcome.figures.keys() == {"map_change_501", "map_change_1"}
    assert outcome.maps.keys() == {"t = 501", "t = 1"}
    for rows in outcome.maps.values():
        assert rows.shape == (2, 3, 16, 16)
        assert (rows.min(), rows.max()) == (0, 1)
    assert context.backbone.unet.attn_processors == before


def test_attention_maps_layer_by_layer(context):
    layered = actions.attention(context, item("attention", host="frame", by_layer=True, timesteps=[1]))
    names = list(layered.maps)
    assert (names[0], len(names)) == ("t = 1, down_blocks.0.attentions.0", 16)
    assert names[-1] == "t = 1, up_blocks.3.attentions.2"
    rows = layered.maps[names[0]]
    assert rows.shape == (2, 3, 16, 16)
    assert not torch.equal(rows, layered.maps[names[-1]])
    world = actions.WorldEdit.held_out(40_000, 2)
    told = context.backbone, world.source.frames, world.settings(steps=2, host="frame", batch=2, exact=True)
    each, mean = maps.layer_maps(*told, [1])[1], maps.attention_maps(*told, [1])[1]
    assert torch.allclose(sum(each.values()) / len(each), mean, rtol=1e-5)


def test_attention_goes_where_the_word_is(context):
    """To the word of a shape, the object attends more than what is around it."""
    world = actions.WorldEdit.held_out(40_000, 2)
    assert world.change.keys() == {"shape"}
    outcome = actions.attention(context, item("attention", host="frame", steps=10, timesteps=[1]))
    shown = torch.maximum(world.source.masks, world.truth.masks).amax(1, keepdim=True)
    inside = torch.nn.functional.interpolate(shown, (16, 16), mode="area") > 0.5
    found = outcome.maps["t = 1"][:, :1]
    assert found[inside].mean() > 1.5 * found[~inside].mean()


def test_feature_maps(context):
    plain = actions.features(context, item("features", timesteps=[941]))
    adapted = actions.features(context, item("features", timesteps=[941], adapter="mini"))
    assert plain.maps.keys() == {"frame 1, t = 941", "frame 2, t = 941"}
    assert all(row.shape == (8, 3, 16, 16) for row in plain.maps.values())
    assert not torch.equal(plain.maps["frame 1, t = 941"], adapted.maps["frame 1, t = 941"])
    assert 0 < plain.figures["map_change_941"] < 1


class TestTraining:
    def test_a_log_becomes_a_curve(self, context, tmp_path):
        told = [{"step": n + 1, "edit": 1.0, "temporal": 1.0 - n / 1000, "rate": 0} for n in range(1000)]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
        here = actions.Context(context.backbone, context.clip, {"log": tmp_path / "log.jsonl"})
        outcome = actions.training(here, item("training", log="log"))
        assert outcome.figures["temporal_first"] == pytest.approx(0.9505)
        assert outcome.figures["temporal_last"] == pytest.approx(0.0505)
        assert {len(values) for values in outcome.series.values()} == {actions.LOG_POINTS}
        assert outcome.series["step"][0] == pytest.approx(5.5)

    @pytest.mark.parametrize("text", ["", "hello", '{"step": 1}\n', "[1]\n"])
    def test_something_else_is_refused(self, context, tmp_path, text):
        (tmp_path / "log.jsonl").write_text(text)
        here = actions.Context(context.backbone, context.clip, {"log": tmp_path / "log.jsonl"})
        with pytest.raises(SettingsError, match=r"is not a log\.jsonl"):
            actions.training(here, item("training", log="log"))


EXPERIMENT = Experiment(
    name="x",
    title="",
    source="",
    question="",
    conditions=(
        Condition("source", "control", {"what": "source"}, seedless=True),
        Condition("none", "control", {"what": "none of these"}),
    ),
)


class TestRun:
    SETTINGS = StudySettings(clips=2, seeds=(0,), frames=2, steps=1, adapter=None, strips=1)

    def only(self, number):
        return [
            Experiment(
                name="x", title="", source="", question="", conditions=EXPERIMENT.conditions[number:][:1]
            )
        ]

    def test_items_are_run_once_and_kept(self, context, tmp_path):
        prints = fingerprints(self.SETTINGS, context)
        found = runner.run(self.SETTINGS, self.only(0), tmp_path, prints, context=context)
        assert [line["clip"] for line in found.values()] == [40_000, 40_001]
        assert ["picture" in line for line in found.values()] == [True, False]
        text = (tmp_path / "items.jsonl").read_text()
        again = runner.run(self.SETTINGS, self.only(0), tmp_path, prints, context=context)
        assert again == found
        assert (tmp_path / "items.jsonl").read_text() == text

    def test_what_cannot_be_ends_the_study(self, context, tmp_path):
        with pytest.raises(SettingsError, match="no control"):
            runner.run(self.SETTINGS, self.only(1), tmp_path, {}, context=context)

    def test_an_item_that_fails_is_counted_and_tried_again(self, context, tmp_path, monkeypatch):
        def broken(context, item):
            raise ValueError("broken\nbadly")

        with monkeypatch.context() as patched:
            patched.setitem(actions.KINDS, "control", broken)
            found = runner.run(self.SETTINGS, self.only(0), tmp_path, {}, context=context)
        assert {line["error"] for line in found.values()} == {"ValueError: broken"}
        found = runner.run(self.SETTINGS, self.only(0), tmp_path, {}, context=context)
        assert all("figures" in line and "error" not in line for line in found.values())
        assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 4

    def test_processes_share_the_work_and_find_the_same(self, context, tmp_path):
        prints = fingerprints(self.SETTINGS, context)
        alone = runner.run(self.SETTINGS, self.only(0), tmp_path / "a", prints, context=context)
        shared = runner.run(self.SETTINGS, self.only(0), tmp_path / "b", prints, processes=2)
        assert {key: line["figures"] for key, line in shared.items()} == {
            key: line["figures"] for key, line in alone.items()
        }
        assert item_log.read(tmp_path / "b" / "items.jsonl") == shared

    def test_what_cannot_be_ends_a_shared_study_and_its_workers(self, tmp_path):
        before = set(multiprocessing.active_children())
        with pytest.raises(SettingsError, match="no control"):
            runner.run(self.SETTINGS, self.only(1), tmp_path, {}, processes=2)
        assert not set(multiprocessing.active_children()) - before


def test_files_are_looked_for_beside_the_settings(tmp_path):
    settings = StudySettings(adapter=None, tokens={"one": "a.safetensors"}, folder=tmp_path)
    with pytest.raises(SettingsError, match=r"a\.safetensors"):
        item_run.Recipe.of(settings, tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert item_run.Recipe.of(settings, tmp_path).files == {"a.safetensors": tmp_path / "a.safetensors"}
