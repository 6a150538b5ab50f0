"""The numbers of a report, recomputed from the items' lines by other means."""

import json
import re

import numpy as np
import pytest

from evenreel.errors import SettingsError
from evenreel.study import item_log, study_record
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.report import answers, report, summary
from evenreel.study.report.formatting import FIGURES
from evenreel.study.report.markdown import markdown
from evenreel.study.run import runner
from evenreel.study.settings import StudySettings, as_json

SETTINGS = StudySettings(
    clips=12,
    seeds=(0, 1),
    frames=4,
    steps=4,
    experiments=("table1", "similarity"),
    hosts=("tokenflow", "vidtome"),
    adapter="mini",
)
PRINTS = {"model": "abc", "file mini": "def"}
RECORD = {"fingerprints": PRINTS, "evenreel": "0", "torch": "2", "machine": "m", "begun": "now"}
GAINS = {"tokenflow": 0.0, "vidtome": 0.5}
"""What the adapter does to every figure, in standard deviations."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study as a run would leave it; in the lines nothing says what belongs to what but their own fields."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(7)
    study_record.write_record(folder, {"settings": as_json(SETTINGS), **RECORD})
    level = {clip: rng.normal() for clip in range(100)}
    every = experiments(SETTINGS)
    names = sorted({*every[0].figures, "similarity"})
    with item_log.Log(folder / "items.jsonl") as log:
        for planned in runner.plan(SETTINGS, every, PRINTS):
            item, options = planned.item, planned.item.condition.options
            gain = GAINS[options["host"]] if "adapter" in options else 0.0
            figures = {
                name: float(10 + level[item.clip - SETTINGS.first] + gain + 0.2 * rng.normal())
                for name in names
            }
            figures["flicker"] = None if item.clip % 3 else 0.02
            log.append(
                {
                    "key": planned.key, "options": dict(options), "clip": item.clip, "seed": item.seed,
                    "figures": figures, "seconds": 1.0,
                    "series": {"timestep": [751.0, 501.0, 251.0, 1.0], "similarity": rng.random(4).tolist()},
                }
            )  # fmt: skip
    return folder


def items(folder, **options):
    """The lines with these options, straight from the file."""
    found = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    return [one for one in found if one["options"] == options]


def bootstrap(values_by_clip, draws=4_000, seed=99):
    """Interval and two-sided p of the mean, clip by clip drawn, in the plainest way."""
    rng, clips = np.random.default_rng(seed), list(values_by_clip)
    means = []
    for _ in range(draws):
        drawn = [values_by_clip[clips[i]] for i in rng.integers(len(clips), size=len(clips))]
        means.append(np.mean(np.concatenate(drawn)))
    side = min(np.mean(np.array(means) <= 0), np.mean(np.array(means) >= 0))
    return *np.percentile(means, [2.5, 97.5]), min(1.0, 2 * side)


def by_clip(pairs):
    found = {}
    for clip, value in pairs:
        found.setdefault(clip, []).append(value)
    return found


def stepwise_holm(p_values):
    """Rejections at 5%, by the definition: the smallest against 0.05 / m, the next against 0.05 / (m - 1), ..."""
    rejected = set()
    for rank, index in enumerate(np.argsort(p_values)):
        if p_values[index] >= 0.05 / (len(p_values) - rank):
            break
        rejected.add(int(index))
    return rejected


def test_means_and_intervals(folder):
    known = item_log.read(folder / "items.jsonl")
    for row in summary.rows(SETTINGS, experiments(SETTINGS)[0], known, PRINTS):
        mine = items(folder, **row.condition.options)
        assert len(mine) == row.done == row.wanted == 24
        for name, estimate in row.figures.items():
            pairs = [(one["clip"], one["figures"][name]) for one in mine]
            pairs = [(clip, value) for clip, value in pairs if value is not None]
            low, high, _ = bootstrap(by_clip(pairs))
            assert estimate.mean == pytest.approx(np.mean([value for _, value in pairs]))
            assert estimate.median == pytest.approx(np.median([value for _, value in pairs]))
            width = high - low
            assert estimate.low == pytest.approx(low, abs=0.1 * width + 1e-12)
            assert estimate.high == pytest.approx(high, abs=0.1 * width + 1e-12)
            assert estimate.count == len({clip for clip, _ in pairs})


def test_differences_effects_and_holm(folder):
    experiment = experiments(SETTINGS)[0]
    found = summary.differences(SETTINGS, experiment, item_log.read(folder / "items.jsonl"), PRINTS)
    assert len(found) == len(SETTINGS.hosts) * len(experiment.tested)
    plain = []
    for one in found:
        ours = {(i["clip"], i["seed"]): i for i in items(folder, host=one.against, adapter="mini")}
        others = {(i["clip"], i["seed"]): i for i in items(folder, host=one.against)}
        changes = [
            (clip, ours[clip, seed]["figures"][one.figure] - others[clip, seed]["figures"][one.figure])
            for clip, seed in ours
        ]
        low, high, p = bootstrap(by_clip(changes))
        values = np.array([value for _, value in changes])
        assert one.estimate.mean == pytest.approx(values.mean())
        assert one.estimate.low == pytest.approx(low, abs=0.1 * (high - low))
        assert one.estimate.high == pytest.approx(high, abs=0.1 * (high - low))
        assert one.effect == pytest.approx(values.mean() / values.std(ddof=1))
        plain.append(max(p, 1e-4))
    assert {index for index, one in enumerate(found) if one.is_there} == stepwise_holm(np.array(plain))
    assert {one.against for one in found if one.is_there} == {"vidtome"}


def test_the_page_prints_them(folder):
    page = report.write_report(folder).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for host in SETTINGS.hosts:
        for options, name in (
            ({"host": host}, host),
            ({"host": host, "adapter": "mini"}, f"{host} + adapter"),
        ):
            mine = [one["figures"]["truth_psnr"] for one in items(folder, **options)]
            cell = r"[\d.,]+ \[[^]]*\], median [\d.,]+"
            row = re.search(rf"{re.escape(name)} {cell} {cell} ([\d.]+) \[[^]]*\], median ([\d.]+)", text)
            assert float(row[1]) == pytest.approx(np.mean(mine), rel=5e-3)
            assert float(row[2]) == pytest.approx(np.median(mine), rel=5e-3)
    assert "With adapter, edit success is better on vidtome;" in text
    assert "is better on tokenflow" not in text
    ours = np.mean([one["figures"]["clip_t"] for one in items(folder, host="vidtome", adapter="mini")])
    assert f"VidToMe .122 / .123 29.94 / 29.93 {ours:.3g} / " in text


def test_the_curve_is_the_mean_at_each_step(folder):
    experiment = experiments(SETTINGS)[1]
    known = item_log.read(folder / "items.jsonl")
    found = summary.curve(
        SETTINGS, experiment, experiment.conditions[1], known, PRINTS, "timestep", "similarity"
    )
    mine = items(folder, host="vidtome", adapter="mini")
    wanted = np.mean([one["series"]["similarity"] for one in mine], axis=0)
    assert [place for place, _ in found] == [751.0, 501.0, 251.0, 1.0]
    assert [estimate.mean for _, estimate in found] == pytest.approx(wanted)


def test_answers_follow_from_the_intervals(folder):
    experiment = experiments(SETTINGS)[0]
    known = item_log.read(folder / "items.jsonl")
    rows = summary.rows(SETTINGS, experiment, known, PRINTS)
    found = summary.differences(SETTINGS, experiment, known, PRINTS)
    said = answers.answer(experiment, rows, found)
    for figure in experiment.tested:
        label = FIGURES[figure].label.rpartition(",")[0] or FIGURES[figure].label
        word = {"more": "better", "less": "worse", "neither": "higher"}[FIGURES[figure].better]
        assert f"{label} is {word} on vidtome" in said
    nothing = answers.answer(experiment, rows, [one for one in found if one.against == "tokenflow"])
    assert nothing.startswith("No difference in edit success, rest kept,")
    assert answers.answer(experiment, [], []) == ""


def test_few_clips_are_a_direction_only(folder):
    experiment = experiments(SETTINGS)[0]
    few = StudySettings(**{**vars(SETTINGS), "clips": 4})
    known = item_log.read(folder / "items.jsonl")
    rows = summary.rows(few, experiment, known, PRINTS)
    found = summary.differences(few, experiment, known, PRINTS)
    assert min(one.p for one in found) < 0.05
    assert not any(one.is_there for one in found)
    assert answers.answer(experiment, rows, found).startswith("With 4 clips nothing can be concluded")


def test_the_table_in_markdown(folder):
    head, _, *rows = (
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in markdown(folder, "table1").splitlines()
    )
    place = head.index("truth PSNR, dB")
    without, with_adapter = (
        items(folder, host="vidtome", **more) for more in ({}, {"adapter": SETTINGS.adapter or "mini"})
    )
    mean = np.mean([one["figures"]["truth_psnr"] for one in with_adapter])
    change = mean - np.mean([one["figures"]["truth_psnr"] for one in without])
    row = next(row for row in rows if row[0] == "vidtome + adapter")
    assert row[1] == str(len(with_adapter))
    assert row[place].startswith(f"{mean:.3g} ({change:+.2g} [")
    assert row[place].endswith("]*)")  # half a standard deviation is there on this many clips
    assert "(" not in next(row for row in rows if row[0] == "tokenflow")[place]
    values = [[one["figures"]["truth_psnr"] for one in found] for found in (with_adapter, without)]
    middle, moved = np.median(values[0]), np.median(np.subtract(*values))
    line = next(row for row in markdown(folder, "table1", medians=True).splitlines() if "vidtome +" in row)
    assert f"| {mean:.3g}, {middle:.3g} ({change:+.2g}, {moved:+.2g} [" in line
    with pytest.raises(SettingsError, match="no results"):
        markdown(folder, "raters")
    assert markdown(folder, "table1", ["kept"]).splitlines()[0] == "|  | items | rest kept, % |"
    with pytest.raises(SettingsError, match="no figure 'colour'; it has asked"):
        markdown(folder, "table1", ["colour"])
