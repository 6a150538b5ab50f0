"""What docs/regions.md says was measured is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean

from evenreel.workflows.editing.computing import keeping

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "regions.md").read_text(encoding="utf-8").split())


def lines(name):
    return [json.loads(line) for line in (DOCS / "edits" / name).read_text(encoding="utf-8").splitlines()]


REGIONS, EDITS = lines("regions.jsonl"), lines("kept.jsonl")
OF_ALL = {"background", "style"}
LOCAL = [line for line in REGIONS if not OF_ALL & set(line["change"])]
WHOLE = [line for line in REGIONS if OF_ALL & set(line["change"])]


def test_what_tells_a_change_of_all_from_one_of_a_part():
    calm = [min(line["calm"] for line in LOCAL), max(line["calm"] for line in LOCAL)]
    of_all = [min(line["calm"] for line in WHOLE), max(line["calm"] for line in WHOLE)]
    assert f"by {calm[0]:.3f} to {calm[1]:.3f} in the calmest fifth" in PAGE
    assert f"style, by {of_all[0]:.3f} to {of_all[1]:.2f}" in PAGE
    assert of_all[0] > keeping.PART
    assert calm[1] < keeping.ALL
    part, whole = (
        [line["calm"] / line["busy"] for line in some if keeping.PART < line["calm"] < keeping.ALL]
        for some in (LOCAL, WHOLE)
    )
    assert f"fifth has at most {max(part):.3f} of the busiest" in PAGE
    assert f"and at least {min(whole):.3f} where all does" in PAGE
    assert max(part) < keeping.EVEN < min(whole)


def test_figures_of_regions():
    found = [line for line in LOCAL if line["kept"]]
    assert f"{len(LOCAL)} clips of which a part changes and {len(WHOLE)} of which all does" in PAGE
    assert all(line["kept"] == 0 for line in WHOLE)
    missed = len(LOCAL) - len(found)
    assert f"of {missed} of the {len(LOCAL)} everything is edited all the same" in PAGE
    assert f"at least {100 * min(line['recall'] for line in found):.1f}% of the pixels that change" in PAGE
    assert f"{100 * fmean(line['precision'] for line in found):.0f}% of its pixels change" in PAGE
    assert f"{100 * fmean(line['kept'] for line in found):.0f}% of the picture" in PAGE


def test_the_table_of_edits_is_that_of_the_lines():
    page = (DOCS / "regions.md").read_text(encoding="utf-8")
    rows = {(line["clip"], line["row"]): line for line in EDITS}
    clips = sorted({clip for clip, _ in rows})
    for clip in clips:
        off, auto = rows[clip, "off"], rows[clip, "auto"]
        figures = ("truth_psnr", "object_truth_psnr", "ring_truth_psnr", "rest_truth_psnr")
        cells = " | ".join(f"{off[name]:.1f}, {auto[name]:.1f}" for name in figures)
        change = ", ".join(off["change"].values())
        assert f"| {clip} | {change} | {cells} |" in page
    gains = [rows[clip, "auto"]["truth_psnr"] - rows[clip, "off"]["truth_psnr"] for clip in clips]
    assert f"{fmean(gains):+.1f} dB on average, {min(gains):+.1f} at least" in PAGE
