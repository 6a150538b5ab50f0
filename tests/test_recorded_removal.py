"""What docs/regions.md says of removals is what their recorded lines say."""

import json
from pathlib import Path
from statistics import fmean

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "regions.md").read_text(encoding="utf-8").split())
LINES = [json.loads(line) for line in (DOCS / "edits" / "removal.jsonl").read_text("utf-8").splitlines()]
KINDS = ("source", "inpainted", "removed")


def test_the_table_is_that_of_the_lines():
    for name, lines in (
        (f"all {len(LINES)}", LINES),
        ("the camera moves", [line for line in LINES if line["camera_moves"]]),
        ("it stands still", [line for line in LINES if not line["camera_moves"]]),
    ):
        means = " | ".join(f"{fmean(line[kind] for line in lines):.2f}" for kind in KINDS)
        assert f"| {name} | {means} |" in PAGE


def test_where_it_is_better_and_where_worse():
    gains = [line["removed"] - line["inpainted"] for line in LINES]
    assert f"in {sum(gain > 0 for gain in gains)} clips, and at worst {-min(gains):.1f} dB below it" in PAGE
    worst = LINES[gains.index(min(gains))]
    assert f"below it ({worst['background']}, {worst['style']})" in PAGE
