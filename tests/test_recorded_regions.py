"""What docs/regions.md says was measured is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean, median

from evenreel.workflows.editing.computing import differences

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "regions.md").read_text(encoding="utf-8").split())


def lines(name):
    return [json.loads(line) for line in (DOCS / "edits" / name).read_text(encoding="utf-8").splitlines()]


REGIONS, EDITS = lines("regions.jsonl"), lines("kept.jsonl")
OF_ALL = {"background", "style"}
UNSEEN = lines("regions-unseen.jsonl")


def parted(some):
    """Lines of clips of which a part changes, and of which all does."""
    whole = [line for line in some if OF_ALL & set(line["change"])]
    return [line for line in some if line not in whole], whole


LOCAL, WHOLE = parted(REGIONS)


def held(recall):
    low = sum(one < 0.98 for one in recall)
    return (
        f"at least {100 * min(recall):.1f}% of the pixels that change ({100 * fmean(recall):.1f}% on average, less "
        f"than 98% on {low} clip{'s' * (low != 1)})"
    )


def test_what_tells_a_change_of_all_from_one_of_a_part():
    part, whole = ([line["beyond"] for line in some] for some in (LOCAL, WHOLE))
    assert f"differs by at most {max(part):.4f} where a part changes" in PAGE
    assert f"by at least {min(whole):.4f} where all does, on the {len(REGIONS)} clips" in PAGE
    assert max(part) < differences.ALL < min(whole)
    for figure in (
        differences.SPILL,
        differences.ALL,
        differences.DOUBT,
        differences.SMALLEST,
        differences.LEAST,
        differences.SLIGHT,
    ):
        assert f"{figure:g}".lstrip("0") in PAGE


def test_what_the_rule_before_left_as_it_was():
    def was_of_all(line):
        return line["calm"] > 0.065 or line["calm"] > max(0.022, 0.12 * line["busy"])

    new = [line for line in WHOLE if line["clip"] // 1000 in (64, 66)]
    left = [line["clip"] for line in new if not was_of_all(line)]
    assert len(left) == 2
    assert f"it left two backgrounds as they were (clips {left[0]} and {left[1]})" in PAGE


def test_figures_of_regions():
    assert f"{len(LOCAL)} clips of which a part changes and {len(WHOLE)} of which all does" in PAGE
    assert all(line["kept"] == 0 for line in WHOLE)
    found = [line for line in LOCAL if line["kept"]]
    assert f"of {len(LOCAL) - len(found)} of the {len(LOCAL)} everything is edited all the same" in PAGE
    assert held([line["recall"] for line in found]) in PAGE
    assert f"{100 * fmean(line['precision'] for line in found):.0f}% of its pixels change" in PAGE
    assert f"{100 * fmean(line['kept'] for line in found):.0f}% of the picture" in PAGE


def test_figures_of_regions_on_clips_that_set_no_limit():
    local, whole = parted(UNSEEN)
    assert not {line["clip"] for line in UNSEEN} & {line["clip"] for line in REGIONS}
    short = sum(line["frames"] == 4 for line in UNSEEN)
    assert f"{short} of 4 frames (67000 to 67099) and {len(UNSEEN) - short} of 16 frames" in PAGE
    assert all(line["kept"] == 0 for line in whole)
    assert all(line["kept"] > 0 for line in local)
    assert (
        f"Every one is seen as what it is: of {len(local)} a part changes, of {len(whole)} everything" in PAGE
    )
    assert held([line["recall"] for line in local]) in PAGE
    assert f"{100 * fmean(line['precision'] for line in local):.0f}% of a region's pixels change" in PAGE
    assert f"and {100 * fmean(line['kept'] for line in local):.0f}% of the picture is kept" in PAGE


def test_the_table_of_edits_is_that_of_the_lines():
    rows = {(line["clip"], line["row"]): line for line in EDITS}
    clips = sorted({clip for clip, _ in rows})
    kinds: dict[str, list[int]] = {"all": clips}
    for clip in clips:
        kinds.setdefault(" and ".join(sorted(rows[clip, "off"]["change"])), []).append(clip)
    for kind, some in kinds.items():
        gains = [rows[clip, "auto"]["truth_psnr"] - rows[clip, "off"]["truth_psnr"] for clip in some]

        def both(name: str, scale: float, digits: int, some: list[int] = some) -> str:
            means = (scale * fmean(rows[clip, way][name] for clip in some) for way in ("off", "auto"))
            return ", ".join(f"{mean:.{digits}f}" for mean in means)

        figures = ("truth_psnr", "object_truth_psnr", "ring_truth_psnr", "rest_truth_psnr")
        cells = [*(both(name, 1, 1) for name in figures), both("found", 100, 0), both("right", 100, 0)]
        gain = f"{fmean(gains):+.2f}, {median(gains):+.2f} ({min(gains):+.2f})"
        if kind in ("texture", "colour"):
            assert f"{kind} ({fmean(gains):+.2f}" in PAGE
        assert " | ".join([f"| {kind}", str(len(some)), gain, *cells]) in PAGE
    gains = [rows[clip, "auto"]["truth_psnr"] - rows[clip, "off"]["truth_psnr"] for clip in clips]
    assert (
        f"{fmean(gains):+.2f} dB on average ({median(gains):+.2f} in the median), and {min(gains):+.2f}"
        in PAGE
    )
    assert f"Edits of the {len(clips)} clips from 62000 to 62099 of which a part changes" in PAGE
    assert f"Of the other {100 - len(clips)} everything is edited" in PAGE
    asked = {clip: rows[clip, "auto"]["asked"] for clip in clips}
    shaped = [clip for clip in clips if "shape" in rows[clip, "auto"]["change"]]
    missed = sum(asked[clip] < 1 for clip in shaped)
    assert f"the judge finds {100 * fmean(asked.values()):.0f}%, and of the {len(shaped)} clips" in PAGE
    assert f"with another shape it misses something in {missed} " in PAGE
    right = [100 * fmean(rows[clip, way]["right"] for clip in clips) for way in ("auto", "off")]
    assert f"{right[0]:.0f}% of the pixels that an edit changes" in PAGE
    assert f"for {right[1]:.0f}% without" in PAGE


def test_other_hosts_are_those_of_the_lines():
    rows = {
        (line["host"], line["clip"], line["row"]): line["truth_psnr"] for line in lines("kept-hosts.jsonl")
    }
    for host, told in (
        (
            "frame, no motion modules",
            "{} dB on average ({} in the median, {} at least) without motion modules",
        ),
        ("vidtome", "{} dB ({}, {}) with the host `vidtome`"),
    ):
        clips = {clip for name, clip, _ in rows if name == host}
        gains = [rows[host, clip, "auto"] - rows[host, clip, "off"] for clip in clips]
        assert f"On {len(clips)} of these clips" in PAGE
        assert told.format(*(f"{one:+.2f}" for one in (fmean(gains), median(gains), min(gains)))) in PAGE


def test_the_longer_clips_are_those_of_the_lines():
    camera, long = lines("kept-long.jsonl")
    assert (camera["frames"], long["frames"]) == (24, 200)
    levels, worst = (
        [f"{clip[name]:.3f}" for clip in (camera, long)]
        for name in ("background_levels", "worst_frame_levels")
    )
    assert f"by {levels[0]} and {levels[1]} levels on average" in PAGE
    assert f"by {worst[0]} and {worst[1]} in the worst frame" in PAGE
    step = max(clip["largest_step_levels"] for clip in (camera, long))
    assert f"from one frame to the next that changes by {step:.3f} at most" in PAGE
    assert f"{100 * long['least_share']:.0f} to {100 * long['most_share']:.0f}% of a frame is kept" in PAGE
    assert f"changes by up to {100 * long['largest_step_share']:.0f}% of the frame" in PAGE
    shares = f"{100 * camera['least_share']:.0f} to {100 * camera['most_share']:.0f}%"
    assert f"in the other {shares}, by {100 * camera['largest_step_share']:.0f}%" in PAGE
