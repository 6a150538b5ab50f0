"""What documents quote of the recorded study is what its lines say."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evenreel.study import item_log
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.report.markdown import markdown
from evenreel.study.report.summary import differences, rows
from evenreel.study.run import runner
from evenreel.study.study_record import read_record, settings_of

DOCS = Path(__file__).parents[3] / "docs"
STUDY = DOCS / "study"
QUOTED = re.compile(
    r"<!-- evenreel study table (\S+) (?:--out docs/(\S+) )?--figures (\S+)( --medians)? -->\n\n((?:\|.*\n)+)"
)
"""A table, under the command that printed it."""


def quotes():
    return [
        pytest.param(*found, id=f"{page.stem} {found[0]}")
        for page in sorted(DOCS.glob("*.md"))
        for found in QUOTED.findall(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("name", "folder", "figures", "medians", "quoted"), quotes())
def test_a_quoted_table_is_that_of_the_lines(name, folder, figures, medians, quoted):
    table = markdown(DOCS / (folder or "study"), name, figures.split(","), medians=bool(medians))
    counts = [int(row.split("|")[2]) for row in table.splitlines()[2:]]
    assert any(counts), (
        "no item of the record belongs to this experiment as it is now: run it again, quote it anew"
    )
    assert quoted.strip() == table


def test_the_page_says_how_much_is_recorded():
    record = read_record(STUDY)
    settings, known = settings_of(record), item_log.read(STUDY / "items.jsonl")
    planned = runner.plan(settings, experiments(settings), record["fingerprints"])
    done = sum("figures" in known.get(one.key, {}) for one in planned)
    page = (DOCS / "study.md").read_text(encoding="utf-8")
    assert f"{done} items of the {len(planned)} that its settings plan" in page


def test_film_strips_are_of_the_hosts_that_they_name():
    page = (DOCS / "recorded-study.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (.+?) \| !\[.*?\]\(study/frames/(\S+)\) \|$", page, flags=re.MULTILINE))
    items = [
        one for one in item_log.read(STUDY / "items.jsonl").values() if one.get("picture") in told.values()
    ]
    names = {"source": "the source", "truth": "the right answer"}
    kept = {
        names.get(one["options"].get("what")) or f"`{one['options']['host']}`": one["picture"]
        for one in items
    }
    assert told == kept
    assert len(told) == 7
    assert all((STUDY / "frames" / name).is_file() for name in told.values())
    assert {(one["clip"], one["seed"], one["steps"]) for one in items} == {(40000, 0, 15)}
    assert all(len(one["options"]) == 1 for one in items)


def test_documents_quote_the_study():
    assert {quote.values[0] for quote in quotes()} >= {"table1", "trainings", "tokens", "windows"}


@pytest.fixture(scope="module")
def changes():
    """What the adapter changes in a figure on a host: for each clip, the mean over its seeds."""
    record = read_record(STUDY)
    settings, known = settings_of(record), item_log.read(STUDY / "items.jsonl")
    (experiment,) = [one for one in experiments(settings) if one.name == "table1"]
    places: dict[str, dict[tuple[int, int], dict[str, float | None]]] = {}
    for condition in experiment.conditions:
        for item in runner.items_of(settings, experiment, condition):
            if "figures" in (line := known.get(item.key(record["fingerprints"]), {})):
                places.setdefault(condition.name, {})[item.clip, item.seed] = line["figures"]

    def changes(figure, host):
        per_clip: dict[int, list[float]] = {}
        for place, mine in places[f"{host} + adapter"].items():
            theirs = places[host].get(place, {})
            if mine.get(figure) is not None and theirs.get(figure) is not None:
                per_clip.setdefault(place[0], []).append(mine[figure] - theirs[figure])
        return [float(np.mean(values)) for _, values in sorted(per_clip.items())]

    return {host: partial(changes, host=host) for host in settings.hosts}


def spread(values):
    return f"{min(values):.1f} to {max(values):.1f}"


def leaves_out_zero(values):
    drawn = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    low, high = np.quantile(np.array(values)[drawn].mean(1), [0.025, 0.975])
    return low > 0 or high < 0


def test_what_the_adapter_s_page_says_in_words(changes):
    page = " ".join((DOCS / "adapter.md").read_text(encoding="utf-8").split())
    truth = {host: change("truth_psnr") for host, change in changes.items()}
    assert f"come nearer to the right answer, by {spread(list(map(np.mean, truth.values())))} dB" in page
    assert f"the median clip by {spread(list(map(np.median, truth.values())))} dB" in page
    assert all(map(leaves_out_zero, truth.values()))
    inside = {host: change("foreground_truth_psnr") for host, change in changes.items()}
    assert f"the object's own PSNR rises by {spread(list(map(np.mean, inside.values())))} dB" in page
    assert "`vid2vid_zero` alone" in page
    assert [host for host, values in inside.items() if leaves_out_zero(values)] == ["vid2vid_zero"]
    outside = {host: change("background_psnr") for host, change in changes.items()}
    assert f"the background's by {spread(list(map(np.mean, outside.values())))} dB" in page
    assert {len(values) for values in outside.values()} == {6}
    assert all(map(leaves_out_zero, outside.values()))
    ssim = {host: np.mean(change("truth_ssim")) for host, change in changes.items()}
    assert {f"{value:.2f}" for value in ssim.values()} == {"0.02"}
    warp = {host: change("warp_error") for host, change in changes.items()}
    assert all(np.mean(values) < 0 for values in warp.values())
    assert {host for host, values in warp.items() if not leaves_out_zero(values)} == {
        "frame",
        "text2video_zero",
    }
    worst = [min(np.median(values), 0) * 1e3 for values in warp.values()]
    assert f"that of the median clip by {-max(worst):.2f}e-3 to {-min(worst):.2f}e-3" in page


def test_what_is_said_of_forms_of_the_filter():
    """The published form loses four decibels at few steps, and the best one cannot be told from plain DDIM."""
    folder = STUDY / "filters"
    record = read_record(folder)
    settings, known = settings_of(record), item_log.read(folder / "items.jsonl")
    (experiment,) = [one for one in experiments(settings) if one.name == "filters"]
    found = {
        (one.condition, one.figure): one.estimate
        for one in differences(settings, experiment, known, record["fingerprints"])
    }
    for steps in (3, 5):
        published = found[f"as published, {steps} steps", "truth_psnr"]
        assert round(published.mean) == -4
        assert (published.count, published.high < 0) == (5, True)
        for form in ("clean steps", "noisy half"):
            assert published.mean < found[f"{form}, {steps} steps", "truth_psnr"].mean < 0
        for figure in ("truth_psnr", "warp_error"):
            best = found[f"predicted clean, noisy half, {steps} steps", figure]
            assert best.low <= 0 <= best.high


def test_what_is_said_of_table_3():
    folder = STUDY / "table3"
    record = read_record(folder)
    settings, known = settings_of(record), item_log.read(folder / "items.jsonl")
    (experiment,) = [one for one in experiments(settings) if one.name == "table3"]
    found = differences(settings, experiment, known, record["fingerprints"])
    gains = [one.estimate for one in found if one.figure == "truth_psnr"]
    assert {f"{gain.mean:.1f}" for gain in gains} == {"0.3", "0.4"}
    assert (len(gains), {gain.count for gain in gains}) == (6, {3})
    means = {
        row.condition.name: row.figures["frechet_clip"]
        for row in rows(settings, experiment, known, record["fingerprints"])
    }
    assert all(means[one].mean > means[other].mean for one, other in experiment.pairs)


def test_what_the_adapter_s_page_says_of_objectives_without_answers():
    table = markdown(STUDY, "trainings", ["truth_psnr", "warp_error"])
    found = {
        cells[1].strip(): re.findall(r"\(([-+.0-9]+) \[.*?\](\*?)\)", row)
        for row in table.splitlines()[2:]
        if len(cells := row.split("|")) > 3
    }
    assert found["noise, source-anchored"] == [("+0.44", "*"), ("-0.16", "*")]
    assert found["noise, layers on the way down"] == [("+0.78", ""), ("-0.5", "*")]
    assert found["noise, noise-levels"] == [("+0.5", "*"), ("-0.14", "")]
    assert [star for _, star in found["noise, frames"] + found["edits"]] == [""] * 4
    page = (DOCS / "adapter.md").read_text(encoding="utf-8")
    assert "| +0.44 dB, warp error -0.16e-3, both after adjustment |" in page
    assert "| +0.78 dB, which does not stand after adjustment, warp error -0.5e-3, which does |" in page
    assert "| +0.5 dB, after adjustment; warp error -0.14e-3, not after it |" in page


def test_what_the_page_says_of_windows_tokens_text_and_maps():
    folder = STUDY / "figures"
    record = read_record(folder)
    settings, known = settings_of(record), item_log.read(folder / "items.jsonl")
    found = {
        (experiment.name, one.condition, one.figure): one.estimate
        for experiment in experiments(settings)
        for one in differences(settings, experiment, known, record["fingerprints"])
    }
    counts = {name: estimate.count for (name, *_), estimate in found.items()}
    assert counts == {"table1_text": 5, "grid": 3, "ablation": 3, "maps_layers": 2}
    assert (settings.frames, settings.steps, settings.seeds) == (4, 10, (0,))
    text = "Text2Video-Zero + adapter"
    assert found["table1_text", text, "clip_f"].mean < 0  # no steadier
    assert found["table1_text", text, "clip_t"].low < 0 < found["table1_text", text, "clip_t"].high
    grid = [one.mean for (name, _, figure), one in found.items() if (name, figure) == ("grid", "truth_psnr")]
    assert len(grid) == 6
    assert max(map(abs, grid)) < 0.1
    assert abs(found["ablation", "no tokens", "truth_psnr"].mean) < 0.01  # the LoRA alone
    whole = found["ablation", "as it is", "truth_psnr"]
    assert whole.low < 0 < whole.high
    alone, weighty = (
        {
            line["clip"]: line["figures"]["truth_psnr"]
            for line in known.values()
            if line["kind"] == "edit" and {**line["options"], "host": ""} == {"host": "", **told}
        }
        for told in ({}, {"adapter": settings.adapter, "adapter_frame_weight": 4.0})
    )
    broken = min(alone, key=lambda clip: weighty[clip] - alone[clip])
    page = " ".join((DOCS / "recorded-study.md").read_text(encoding="utf-8").split())
    assert f"break one of three ({weighty[broken]:.1f} dB, where {alone[broken]:.1f} are had without)" in page
    assert all(weighty[clip] > alone[clip] for clip in alone if clip != broken)
    maps = [found["maps_layers", "adapter", f"map_change_{at}"] for at in (981, 541, 1)]
    assert maps[0].low > 0.05
    assert all(abs(one.mean) < 0.0005 for one in maps[1:])


def parts_recorded():
    """Figures of the three parts, by clip, motion modules, host, adapter's parts and inversion."""
    found = {}
    for line in item_log.read(STUDY / "parts" / "items.jsonl").values():
        told = line["options"]
        assert (line["seed"], line["frames"], line["steps"]) == (0, 4, 10)
        place = told.get("motion", "on"), told["host"], told.get("adapter_parts"), told["inversion"]
        found[line["clip"], *place] = line["figures"]
    assert {clip for clip, *_ in found} == {40000, 40001}
    assert len(found) == 160
    return found


def test_what_the_page_says_of_the_three_parts():
    found = parts_recorded()
    hosts = ("frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome")

    def moved(figure, clips, motion, parts, inversion):
        """What some parts change in a figure, mean over clips, by host."""
        return [
            float(
                np.mean(
                    [
                        found[clip, motion, host, parts, inversion][figure]
                        - found[clip, motion, host, None, "ddim"][figure]
                        for clip in clips
                    ]
                )
            )
            for host in hosts
        ]

    page = " ".join((DOCS / "recorded-study.md").read_text(encoding="utf-8").split())
    both, psnr = (40000, 40001), "truth_psnr"
    ways = [(clip, motion) for clip in both for motion in ("off", "on")]
    lora = [abs(one) for clip, motion in ways for one in moved(psnr, (clip,), motion, "lora", "ddim")]
    assert f"does the truth PSNR move by more than {max(lora):.2f} dB" in page
    tokens = {way: moved(psnr, way[:1], way[1], "tokens", "ddim") for way in ways}
    told = {way: f"{min(values):+.1f} to {max(values):+.1f}" for way, values in tokens.items()}
    assert (
        f"**Tokens** move the truth PSNR of clip 40000 by {told[40000, 'off']} dB without motion modules and "
        f"{told[40000, 'on']} with them, that of clip 40001 by {told[40001, 'off']} and {told[40001, 'on']}: down"
    ) in page
    assert max(tokens[40000, "off"] + tokens[40000, "on"]) < 0
    assert min(tokens[40001, "on"]) > 0
    assert sum(one > 0 for one in tokens[40001, "off"]) == 4
    for said, *what in (
        ("**Bilateral inversion** is farther", None, "bilateral"),
        ("**All three** are farther", "lora,tokens", "bilateral"),
    ):
        without, with_modules = (
            [-one for one in moved(psnr, both, motion, *what)] for motion in ("off", "on")
        )
        text = (
            f"{said} on every host and both clips, on average by {min(without):.1f} to {max(without):.1f} dB"
        )
        text += f" without motion modules and {min(with_modules):.1f} to {max(with_modules):.1f} with them"
        assert text in page
        assert all(max(moved(psnr, (clip,), motion, *what)) < 0 for clip, motion in ways)
    assert max(moved("warp_error", both, "on", None, "bilateral")) < 0
    assert max(moved("sharpness_ratio", both, "on", None, "bilateral")) < 0
    assert min(moved("warp_error", both, "off", None, "bilateral")) > 0


def test_what_the_adapter_s_page_says_of_ways_back():
    folder = STUDY / "answers"
    record = read_record(folder)
    settings, known = settings_of(record), item_log.read(folder / "items.jsonl")
    (experiment,) = experiments(settings)
    found = {
        (one.condition, one.figure): one
        for one in differences(settings, experiment, known, record["fingerprints"])
    }
    assert found["edits, cycle", "warp_error"].is_there
    assert not any(one.is_there for key, one in found.items() if key != ("edits, cycle", "warp_error"))
    by_file = {}
    for line in known.values():
        by_file.setdefault(line["options"].get("adapter", ""), {})[line["clip"]] = line["figures"]
    plain, clips, cycle = (
        [one[clip] for clip in range(40000, 40006)]
        for one in map(by_file.get, ("", "var/clips/adapter.safetensors", "var/cycle/adapter.safetensors"))
    )

    def changes(figure, mine, theirs):
        return [one[figure] - other[figure] for one, other in zip(mine, theirs, strict=True)]

    page = " ".join((DOCS / "adapter.md").read_text(encoding="utf-8").split())
    nearer = changes("truth_psnr", cycle, clips)
    assert f"({np.mean(nearer):+.2f} dB on average, {np.median(nearer):+.2f} in the median)" in page
    assert [one < 0 for one in changes("sharpness_ratio", cycle, plain)] == [True] * 6
    assert sum(one < 0 for one in changes("sharpness_ratio", clips, plain)) == 4
    assert [sum(one < 0 for one in changes("kept", mine, plain)) for mine in (clips, cycle)] == [1, 0]
    parts = parts_recorded()
    farther = [
        parts[clip, "on", "frame", None, "ddim"]["truth_psnr"]
        - parts[clip, "on", "tokenflow", None, "ddim"]["truth_psnr"]
        for clip in (40000, 40001)
    ]
    assert (
        f"are {farther[0]:.2f} and {farther[1]:.2f} dB farther from the right answer than in `frame`" in page
    )
    hosts = {host for _, motion, host, *_ in parts if motion == "on"}
    for clip in (40000, 40001):
        errors = {host: parts[clip, "on", host, None, "ddim"]["warp_error"] for host in hosts}
        assert min(errors, key=errors.get) == "tokenflow"


RECIPES = ("published", "clips", "edits")


def recipes_of_three_seeds():
    """By recipe, of each training seed, by how much each clip's figures move from those without an adapter."""
    by_file = {}
    for line in item_log.read(STUDY / "trainings" / "items.jsonl").values():
        by_file.setdefault(line["options"].get("adapter", ""), {})[line["clip"]] = line["figures"]
    plain = by_file.pop("")

    def moved(recipe, seed, figure):
        made = by_file[f"var/{recipe}{seed}/adapter.safetensors"]
        return [made[clip][figure] - plain[clip][figure] for clip in sorted(plain)]

    return {
        (recipe, figure): [moved(recipe, seed, figure) for seed in range(3)]
        for recipe in RECIPES
        for figure in ("truth_psnr", "warp_error", "sharpness_ratio", "asked", "kept")
    }


def said_of_recipes():
    """What docs/adapter.md says of them, recipe by recipe."""
    found = recipes_of_three_seeds()
    for recipe in RECIPES:
        psnr, warp, sharp = (found[recipe, one] for one in ("truth_psnr", "warp_error", "sharpness_ratio"))
        means, medians = [np.mean(seed) for seed in psnr], [np.median(seed) for seed in psnr]
        clips = np.mean(psnr, 0)
        yield (
            f"- `{recipe}`: {min(means):+.2f} to {max(means):+.2f} dB by the seed of the training (medians "
            f"{min(medians):+.2f} to {max(medians):+.2f}); on average over the seeds {sum(clips > 0)} of {len(clips)} "
            f"clips are nearer, {sum(np.mean(warp, 0) < 0)} have less warp error, and {sum(np.mean(sharp, 0) < 0)} are "
            "less sharp."
        )


def test_what_the_adapter_s_page_says_of_three_seeds():
    page = (DOCS / "adapter.md").read_text(encoding="utf-8")
    for line in said_of_recipes():
        assert line in page
    table = markdown(
        STUDY / "trainings", "trainings", ["asked", "kept", "truth_psnr", "warp_error"], medians=True
    )
    assert "*" not in table, "no difference stands after adjustment, as the page says"
    psnr = [recipes_of_three_seeds()[recipe, "truth_psnr"] for recipe in RECIPES]
    spread = [np.ptp([np.mean(seed) for seed in seeds]) for seeds in psnr]
    means = sorted(np.mean(seeds) for seeds in psnr)
    assert max(spread) < 0.15, "a tenth of a decibel or so"
    assert means[-1] - means[0] > max(spread)
