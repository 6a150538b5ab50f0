"""A study: items once, what is cut goes on, figures recomputed from the lines, and a page that needs nothing else."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from evenreel.errors import SettingsError
from evenreel.inversions.bilateral import BilateralInversion
from evenreel.settings import EditSettings
from evenreel.study import item_log, study_record
from evenreel.study.experiments import filters
from evenreel.study.experiments.catalogue import experiments, names
from evenreel.study.experiments.conditions import edit
from evenreel.study.items import Condition, Experiment, Item
from evenreel.study.report import plots, report, summary
from evenreel.study.report.formatting import FIGURES
from evenreel.study.run import actions, runner
from evenreel.study.settings import StudySettings, as_json, read_file

SETTINGS = StudySettings(
    inversion="fixed-point",
    clips=6,
    seeds=(0, 1),
    frames=2,
    steps=2,
    experiments=("hosts",),
    hosts=("frame", "vidtome"),
)
PRINTS = {"model": "abc"}
EXPERIMENT = experiments(SETTINGS)[0]
FULL = StudySettings(
    adapter="mini",
    tokens={"none": "t0"},
    trainings={"frames": "t1"},
    training_windows={"0.5:1": "t2"},
    training_log="log.jsonl",
)


def item_of(condition, clip, seed):
    return Item(condition, clip, seed, SETTINGS.frames, SETTINGS.steps, SETTINGS.inversion)


def made_up(better=0.0):
    """Lines as a run would leave them; vidtome is better by so much, clip by clip the same."""
    rng = np.random.default_rng(0)
    found = {}
    for number, condition in enumerate(EXPERIMENT.conditions):
        for clip in range(SETTINGS.first, SETTINGS.first + SETTINGS.clips):
            for seed in SETTINGS.seeds:
                key = item_of(condition, clip, seed).key(PRINTS)
                level = clip % 7 + better * number + 0.01 * rng.normal()
                figures = {
                    "asked": 1.0,
                    "kept": 0.75,
                    "truth_psnr": level,
                    "warp_error": 0.01,
                    "flicker": None,
                }
                found[key] = {"key": key, "figures": figures, "seconds": 1.0, "clip": clip, "seed": seed}
    return found


class TestLines:
    def test_items_come_back(self, tmp_path):
        with item_log.Log(tmp_path / "items.jsonl") as log:
            log.append({"key": "a", "n": 1})
            log.append({"key": "b"})
            log.append({"key": "a", "n": 2})
        assert item_log.read(tmp_path / "items.jsonl") == {"a": {"key": "a", "n": 2}, "b": {"key": "b"}}

    def test_a_line_cut_by_a_kill_is_dropped_and_mended(self, tmp_path):
        path = tmp_path / "items.jsonl"
        path.write_text('{"key": "a"}\n{"key": "b", "fig')
        assert item_log.read(path).keys() == {"a"}
        with item_log.Log(path) as log:
            log.append({"key": "c"})
        assert item_log.read(path).keys() == {"a", "c"}

    def test_something_else_is_refused(self, tmp_path):
        (tmp_path / "x").write_text("hello\n")
        with pytest.raises(SettingsError, match="line 1"):
            item_log.read(tmp_path / "x")


class TestItems:
    def test_the_key_sees_all_that_decides(self):
        item = item_of(Condition("a", "edit", {"host": "frame"}), 1, 0)
        others = [
            replace(item, clip=2),
            replace(item, seed=1),
            replace(item, frames=3),
            replace(item, steps=3),
            replace(item, condition=Condition("a", "edit", {"host": "vidtome"})),
            replace(item, condition=Condition("a", "control", {"host": "frame"})),
        ]
        keys = {one.key(PRINTS) for one in (item, *others)} | {item.key({"model": "other"})}
        assert len(keys) == len(others) + 2
        assert replace(item, condition=replace(item.condition, name="b")).key(PRINTS) == item.key(PRINTS)

    def test_adapters_count_by_their_content_and_only_where_they_are_used(self):
        def of(**options):
            return item_of(Condition("a", "edit", {"host": "frame", **options}), 1, 0)

        one, other = PRINTS | {"file a": "1", "file b": "2"}, PRINTS | {"file a": "2", "file b": "1"}
        assert of(adapter="a").key(one) != of(adapter="b").key(one)
        assert of(adapter="a").key(one) != of(adapter="a").key(other)
        assert of(adapter="a").key(one) == of(adapter="b").key(other)
        assert of().key(one) == of().key(other) == of().key(PRINTS)

    def test_defaults_count_where_they_are_used(self):
        item = item_of(Condition("a", "edit", {"host": "frame", "inversion": "ddim"}), 1, 0)
        for name, counts in {"edit": 1, "host frame": 1, "host vidtome": 0, "inversion ddim": 1}.items():
            assert (item.key(PRINTS | {name: "changed"}) != item.key(PRINTS)) == counts
        usual = item_of(Condition("a", "edit", {"host": "frame"}), 1, 0)
        assert usual.key(PRINTS | {f"inversion {SETTINGS.inversion}": "changed"}) != usual.key(PRINTS)

    def test_without_randomness_seeds_share_an_item(self):
        drawn = item_of(Condition("a", "edit", {"host": "vidtome"}), 1, 0)
        alike = item_of(Condition("a", "edit", {"host": "frame"}, seedless=True), 1, 0)
        assert drawn.key(PRINTS) != replace(drawn, seed=1).key(PRINTS)
        for inversion, same in (("fixed-point", True), ("flow-edit", False)):
            one = replace(alike, inversion=inversion)
            assert (one.key(PRINTS) == replace(one, seed=1).key(PRINTS)) == same

    def test_what_is_so_anyway_is_left_out(self):
        told = edit("a", "frame", steps=EditSettings.steps, adapter=None, guidance_scale=5.0)
        assert told.options == {"host": "frame", "guidance_scale": 5.0}

    def test_the_study_s_own_inversion_need_not_be_told(self):
        told, untold = (item_of(edit("a", "frame", inversion=name), 1, 0) for name in ("ddim", None))
        assert replace(told, inversion="ddim").key(PRINTS) == replace(untold, inversion="ddim").key(PRINTS)
        assert told.key(PRINTS) != untold.key(PRINTS)

    def test_names_are_unique_and_pairs_name_conditions(self):
        found = experiments(FULL)
        assert len({one.name for one in found}) == len(found) == len(names())
        for one in found:
            known = [condition.name for condition in one.conditions]
            assert len(set(known)) == len(known)
            assert {name for pair in one.pairs for name in pair} <= set(known)
            assert all(condition.kind in actions.KINDS for condition in one.conditions)
            assert set(one.tested) <= set(one.figures) <= set(FIGURES)

    def test_what_is_named_is_run(self):
        run = {one.name for one in experiments(FULL) if not one.not_run}
        assert set(names()) - run == {"raters"}
        bare = {one.name for one in experiments(StudySettings(adapter=None)) if one.not_run}
        assert bare == {
            "table1", "table1_text", "parts", "parts_motion", "windows", "grid", "ablation", "tokens", "trainings",
            "maps", "maps_layers", "features", "similarity", "training",
            "raters",
        }  # fmt: skip
        other = {one.name for one in experiments(StudySettings(model="runs/mine")) if one.not_run}
        assert other - bare == {"table3"}  # whose ControlNets are mini's

    def test_three_parts_are_there_alone_and_together_on_every_host(self):
        for name, motion in (("parts", "off"), ("parts_motion", None)):
            (found,) = [one for one in experiments(FULL) if one.name == name]
            told = [one.options for one in found.conditions]
            assert {one.get("motion") for one in told} == {motion}
            at_work = {
                (one["host"], one["inversion"], one.get("adapter") and one["adapter_parts"]) for one in told
            }
            assert len(at_work) == len(told) == 8 * len(FULL.hosts)
            assert {parts for _, _, parts in at_work} == {None, "lora", "tokens", "lora,tokens"}
            assert all(one.endswith(", none") for _, one in found.pairs)

    def test_table_3_has_every_control_with_the_adapter_and_without(self):
        (found,) = [one for one in experiments(FULL) if one.name == "table3"]
        names = {condition.name for condition in found.conditions}
        for host in ("Text2Video-Zero", "frames"):
            assert f"{host}, no control" in names
            for kind in ("canny", "pose", "depth"):
                assert (f"{host}, {kind} + adapter", f"{host}, {kind}") in found.pairs
        item = item_of(found.conditions[1], 1, 0)
        for name, counts in {"control": 1, "generate": 1, "host text2video_zero": 1, "edit": 0}.items():
            assert (item.key(PRINTS | {name: "changed"}) != item.key(PRINTS)) == counts

    def test_every_form_of_the_filter_tells_all_settings(self):
        """So that items of a form stay those of that form when a default changes."""
        (found,) = [one for one in experiments(FULL) if one.name == "filters"]
        told = [
            one.options["inversion_options"] for one in found.conditions if "inversion_options" in one.options
        ]
        assert len(told) == 2 * len(filters.FORMS)
        every = {field.name for field in fields(BilateralInversion)}
        assert all(options.keys() == every for options in told)

    def test_side_experiments_take_a_part_of_the_clips(self):
        side = replace(EXPERIMENT, share=0.5, seeds=1)
        assert list(runner.clips_of(SETTINGS, side)) == [40_000, 40_001, 40_002]
        assert len(runner.clips_of(SETTINGS, replace(side, share=0.01))) == 2  # one has no spread
        assert len(runner.clips_of(SETTINGS, replace(side, share=0.0))) == 1
        assert len(runner.plan(SETTINGS, [side], PRINTS)) == 2 * 3

    def test_experiments_share_items(self):
        twice = (EXPERIMENT, replace(EXPERIMENT, name="again"))
        # Editing every frame by itself draws nothing: its two seeds are one item.
        assert len(runner.plan(SETTINGS, twice, PRINTS)) == (1 + 2) * SETTINGS.clips


class TestSummary:
    def test_a_constant_gain_is_found_and_nothing_else(self):
        found = {
            (d.condition, d.figure): d
            for d in summary.differences(SETTINGS, EXPERIMENT, made_up(1.0), PRINTS)
        }
        gain = found["vidtome", "truth_psnr"]
        assert gain.estimate.mean == pytest.approx(1.0, abs=0.02)
        assert gain.is_there
        assert not found["vidtome", "asked"].is_there
        assert ("vidtome", "flicker") not in found  # shown, and not tested

    def test_no_gain_is_no_difference(self):
        rng = np.random.default_rng(1)
        known = made_up()
        for line in known.values():
            line["figures"]["truth_psnr"] += rng.normal()
        assert not any(d.is_there for d in summary.differences(SETTINGS, EXPERIMENT, known, PRINTS))

    def test_failures_are_counted(self):
        known = made_up()
        broken = next(iter(known))
        known[broken] = {"key": broken, "error": "ValueError: no", "seconds": 0.1}
        row = summary.rows(SETTINGS, EXPERIMENT, known, PRINTS)[0]
        assert (row.done, row.failed, row.wanted) == (5, 1, 6)  # seeds share items

    def test_the_mean_is_that_of_the_lines(self):
        known = made_up(1.0)
        row = summary.rows(SETTINGS, EXPERIMENT, known, PRINTS)[1]
        keys = [item.key(PRINTS) for item in runner.items_of(SETTINGS, EXPERIMENT, row.condition)]
        plain = np.mean([known[key]["figures"]["truth_psnr"] for key in keys])
        assert row.figures["truth_psnr"].mean == pytest.approx(plain)

    def test_pareto(self):
        points = [("a", 1, 3), ("b", 2, 2), ("c", 1, 2), ("d", 3, 1)]
        assert summary.pareto(points) == ["a", "b", "d"]


class TestControls:
    @pytest.mark.parametrize("what", actions.CONTROLS)
    def test_every_control_has_the_clip_s_shape(self, what):
        world = actions.WorldEdit.held_out(7, 3)
        item = Item(Condition(what, "control", {"what": what}), 7, 0, 3, 2)
        frames = actions._MADE[what](actions.RenderedSubject(world, None), item)
        assert frames.shape == world.source.frames.shape

    def test_a_picture_is_saved(self, tmp_path):
        assert actions.save_picture(torch.rand(3, 3, 16, 16), tmp_path / "a" / "b.jpg") == "b.jpg"
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.jpg"]


class TestReport:
    def page(self, folder, known):
        prints = {"model": "abc"}
        study_record.write_record(
            folder,
            {
                "settings": as_json(SETTINGS),
                "fingerprints": prints,
                "evenreel": "0",
                "torch": "2",
                "machine": "m",
                "begun": "now",
            },
        )
        with item_log.Log(folder / "items.jsonl") as log:
            for line in known.values():
                log.append(line)
        return report.write_report(folder).read_text()

    def test_it_stands_alone_and_says_what_was_found(self, tmp_path):
        page = self.page(tmp_path, made_up(1.0))
        assert "Truth PSNR is better with vidtome. No difference in edit success," in page
        assert not re.search(r'(src|href)="(?!#|data:)', page)

    def test_it_says_what_of_the_theory_holds(self, tmp_path):
        page = self.page(tmp_path, {})
        assert "false as stated" in page
        assert "(violated)" not in page

    def test_nothing_run_yet(self, tmp_path):
        page = self.page(tmp_path, {})
        assert "Nothing has been run yet" in page
        assert "0 of 18 items" in page
        assert "unavailable" in page

    def test_failures_show(self, tmp_path):
        known = made_up()
        broken = next(iter(known))
        known[broken] = {"key": broken, "error": "ValueError: no", "seconds": 0.1}
        assert "1 failed" in self.page(tmp_path, known)

    def test_names_are_escaped(self):
        nasty = '<script>alert("x")</script>'
        estimate = summary.cluster_bootstrap([1.0, 2.0], [0, 1])
        assert "<script" not in plots.dots([(nasty, estimate)], nasty)
        assert "<script" not in plots.scatter([(nasty, 1.0, 2.0)], [nasty], nasty, nasty)
        assert "<script" not in plots.curves([plots.Curve(nasty, [0, 1], [0, 1])], nasty, nasty)


class TestSettings:
    def test_a_file(self, tmp_path):
        (tmp_path / "s.toml").write_text(
            'clips = 3\nhosts = ["frame"]\nadapter = "a.safetensors"\n[tokens]\n"8 shared" = "t/8.safetensors"\n'
        )
        settings = read_file(tmp_path / "s.toml")
        assert (settings.clips, settings.hosts, settings.adapter) == (3, ("frame",), "a.safetensors")
        assert settings.adapters == ("a.safetensors", "t/8.safetensors")
        assert settings.folder == tmp_path
        assert "folder" not in as_json(settings)  # a record names no place on somebody's machine

    @pytest.mark.parametrize(
        "text",
        [
            "clip = 3",
            'clips = "3"',
            "clips = 0",
            "seeds = []",
            "= 3",
            "hosts = 'frame'",
            "seeds = [1, 1]",
            "folder = 'x'",
            "[tokens]\na = 3",
        ],
    )
    def test_files_that_cannot_be(self, tmp_path, text):
        (tmp_path / "s.toml").write_text(text)
        with pytest.raises(SettingsError):
            read_file(tmp_path / "s.toml")


@pytest.mark.parametrize(
    "values", [(0.0, 1.0), (-3.2, 17.0), (5.0, 5.0), (0.0, 0.0), (1e-6, 3e-6), (-1e5, 2e5)]
)
def test_axes_hold_their_values_between_round_numbers(values):
    axis = plots.Axis.around(values, 0, 100)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert 2 <= len(axis.ticks) <= 13
    assert axis.ticks[0] == pytest.approx(axis.low)
    assert axis.ticks[-1] == pytest.approx(axis.high)


def test_an_experiment_that_is_not_run_plans_nothing():
    assert (
        runner.plan(SETTINGS, [Experiment(name="x", title="", source="", question="", not_run="no")], PRINTS)
        == []
    )
