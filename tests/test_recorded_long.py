"""What docs/clips.md says of memory is what its recorded lines say."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "clips.md").read_text(encoding="utf-8")
LINES = [json.loads(line) for line in (DOCS / "edits" / "long.jsonl").read_text("utf-8").splitlines()]
PEAK = {(line["host"], line["frames"]): line["peak_mib"] for line in LINES if not line["pictures"]}
LENGTHS = sorted({frames for _, frames in PEAK})


def test_the_table_is_that_of_the_lines():
    for host in {host for host, _ in PEAK}:
        cells = " | ".join(
            f"{PEAK[host, frames]:.0f}" if (host, frames) in PEAK else "" for frames in LENGTHS
        )
        assert f"| {host} | {cells} |" in PAGE


def lines(name):
    return [json.loads(line) for line in (DOCS / "edits" / name).read_text("utf-8").splitlines()]


def test_masks_and_removals_are_flat_too_and_as_the_table_says():
    peak = {(line["host"], line["frames"]): line["peak_mib"] for line in lines("long-masks.jsonl")}
    for said, kind in (("carried", "carried"), ("carried by a SAM 2", "by-model"), ("removed", "removal")):
        short, long = peak[kind, 64], peak[kind, 1000]
        assert f"| {said} | {short:.0f} | {long:.0f} |" in PAGE
        assert long < 1.1 * short


def test_two_thousand_frames_of_a_camera_s_clip():
    shell, page = lines("long-real.jsonl")
    text = " ".join(PAGE.split())
    assert (
        f"held {shell['peak_mib']} MiB at most from the command line, and the page's {page['peak_mib']} MiB"
        in text
    )
    assert f"It took {shell['seconds']:.0f} and {page['seconds']:.0f} s" in text
    assert f"took the page to {page['mib_with_pictures']} MiB for a moment" in text
    for line in (shell, page):
        assert (line["frames"], line["same_sound"]) == (2000, True)
        assert f"source's {line['sound_packets']:,} packets" in text
        held = [mib for _, mib in line["mib"]]
        quarter = len(held) // 4
        assert max(held[-quarter:-1]) < 1.1 * max(held[2 * quarter : 3 * quarter])


def test_memory_does_not_grow_with_the_clip():
    """Of ten times the frames and more, less than a tenth more."""
    for (host, frames), peak in PEAK.items():
        assert frames < 640 or peak < 1.1 * PEAK[host, 64]


def test_drift_is_that_of_the_lines():
    for line in LINES:
        if line["pictures"]:
            assert f"{line['host']} {line['drift']:.2f}" in PAGE
