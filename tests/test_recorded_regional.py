"""What docs/regions.md says of prompts for places is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "regions.md").read_text(encoding="utf-8").split())
LINES = [json.loads(line) for line in (DOCS / "edits" / "regional.jsonl").read_text("utf-8").splitlines()]
WAYS = {
    "regions": "`--region`",
    "cut": "two edits, cut together by pixels",
    "whole": "the left half's prompt alone",
}


def test_the_table_is_that_of_the_lines():
    clips = {line["clip"] for line in LINES}
    assert f"on {len(clips)} held-out clips of 4 frames" in PAGE
    for way, name in WAYS.items():
        lines = [line for line in LINES if line["way"] == way]
        assert {line["clip"] for line in lines} == clips
        assert len(lines) == len(clips)
        means = (f"{fmean(line[f'{part}_psnr'] for line in lines):.1f}" for part in ("left", "right", "line"))
        found = sum(line["left_right"] + line["right_right"] for line in lines)
        seconds = fmean(line["cpu_seconds"] for line in lines)
        assert f"| {name} | {' | '.join(means)} | {found} of {2 * len(clips)} | {seconds:.0f} |" in PAGE
