"""What docs/regions.md says of masks that are carried is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "regions.md").read_text(encoding="utf-8").split())
LINES = [json.loads(line) for line in (DOCS / "edits" / "carried.jsonl").read_text("utf-8").splitlines()]
SMALL = [line for line in LINES if line["size"] == 128]


def test_the_table_is_that_of_the_lines():
    assert f"on {len(SMALL)} held-out clips of 128 pixels" in PAGE
    for after in ("8", "16", "64"):
        carried, still = (fmean(line[kind][after] for line in SMALL) for kind in ("carried", "still"))
        assert f"| {after} | {carried:.3f} | {still:.3f} |" in PAGE


def test_the_worst_is_named():
    assert f"The worst is {min(line['carried']['64'] for line in SMALL):.2f} after 64 frames" in PAGE
