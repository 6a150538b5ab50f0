"""What docs/performance.md says of edits that save time is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean, median, stdev

DOCS = Path(__file__).parents[1] / "docs"
LINES = [json.loads(line) for line in (DOCS / "edits" / "performance.jsonl").read_text("utf-8").splitlines()]
EXACT, SIXTEEN = "`--exact`", "16 steps, mixed, guidance in 0.3:1"
FIGURES = (
    "clips",
    "processor time, s (median)",
    "times faster (median)",
    "truth PSNR, dB (median)",
    "against `--exact`, dB: mean (least, most)",
    "asked, %",
    "kept, %",
    "object's warp error, times `--exact`'s (median)",
)


def of_row(row):
    return {line["clip"]: line for line in LINES if line["row"] == row}


def table():
    """Each row over the clips that it has, against the same clips exactly."""
    exact = of_row(EXACT)
    yield f"| edit | {' | '.join(FIGURES)} |"
    yield "|---" * (len(FIGURES) + 1) + "|"
    for row in dict.fromkeys(line["row"] for line in LINES):
        lines = of_row(row)
        gains = [line["truth_psnr"] - exact[clip]["truth_psnr"] for clip, line in lines.items()]
        warped = [
            line["object_warp_error"] / exact[clip]["object_warp_error"] for clip, line in lines.items()
        ]
        cells = [
            f"{len(lines)}",
            f"{median(line['cpu_seconds'] for line in lines.values()):.1f}",
            f"{median(exact[clip]['cpu_seconds'] / line['cpu_seconds'] for clip, line in lines.items()):.2f}",
            f"{median(line['truth_psnr'] for line in lines.values()):.1f}",
            "" if row == EXACT else f"{fmean(gains):+.2f} ({min(gains):+.2f}, {max(gains):+.2f})",
            f"{fmean(100 * line['asked'] for line in lines.values()):.0f}",
            f"{fmean(100 * line['kept'] for line in lines.values()):.0f}",
            f"{median(warped):.2f}",
        ]
        yield f"| {row} | {' | '.join(cells)} |"


def page():
    return (DOCS / "performance.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_lines():
    for line in table():
        assert line in page()


def test_clips_are_not_held_out_ones():
    held_out = {*range(50_000, 50_012), *range(60_000, 60_012)}
    assert not held_out & {line["clip"] for line in LINES}


def test_what_is_said_of_16_steps():
    exact, quick = of_row(EXACT), of_row(SIXTEEN)
    assert exact.keys() == quick.keys()
    gains = [line["truth_psnr"] - exact[clip]["truth_psnr"] for clip, line in quick.items()]
    fewer, lost = (
        sum(line[name] < exact[clip][name] for clip, line in quick.items()) for name in ("asked", "kept")
    )
    error = stdev(gains) / len(gains) ** 0.5
    said = f"nearer to the right answer in {sum(gain > 0 for gain in gains)} of {len(gains)} clips"
    mean = f"its truth PSNR differs by {fmean(gains):+.2f} dB on average (standard error {error:.2f})"
    rest = f"in {fewer} of them an attribute fewer of those asked for is found, in {lost} one fewer of those to be kept"
    assert f"{said}; {mean}; {rest}" in " ".join(page().split())
    assert abs(fmean(gains)) < 2 * error  # or a default would have to be thought over
