"""What hosts and settings do to edits of held-out clips of the world, with intervals, as JSON lines and a table.

    python benchmarks/quality.py frame vidtome tokenflow,mode=sdedit vidtome,guidance_scale=5 --clips 20

A row is a host and, after commas, its settings or those of the edit. The first row is the baseline: each other one is
compared with it clip by clip. Finished items are kept in --out and not computed again.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evenreel.backbones import load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.metrics.statistics import Estimate, cluster_bootstrap
from evenreel.settings import EditSettings
from evenreel.workflows.world.edits import WorldEdit, edit_frames, measured

FIGURES = {
    "asked": 100,
    "kept": 100,
    "truth_psnr": 1,
    "background_psnr": 1,
    "warp_error": 1e3,
    "flicker": 1e3,
}
"""What is shown, and what it is multiplied by."""
FIRST = 20_000
"""Held-out clips from here on: not those of the model card, nor those that defaults are chosen on (30,000 on)."""


def settings_of(row: str, steps: int) -> dict[str, object]:
    """`host,name=value,...` as settings of an edit."""
    host, *pairs = row.split(",")
    values: dict[str, object] = {"host": host, "steps": steps, "host_options": {}}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if name in EditSettings.__dataclass_fields__:
            values[name] = value
        else:
            values["host_options"][name] = value  # type: ignore[index]
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=Path("runs/quality.jsonl"))
    options = parser.parse_args()

    backbone = load_backbone(options.model)
    clip = load_clip("mini", device=backbone.device)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if options.out.exists():
        for line in options.out.read_text().splitlines():
            item = json.loads(line)
            done[item["key"]] = item
    items = []
    with options.out.open("a") as log:
        for number in range(options.first, options.first + options.clips):
            edit = WorldEdit.held_out(number, options.frames)
            for row in options.rows:
                settings = edit.settings(**settings_of(row, options.steps))
                key = json.dumps([row, number, options.frames, options.steps, backbone.fingerprint])
                if key not in done:
                    start = time.perf_counter()
                    edited = edit_frames(backbone, edit.source.frames, settings)
                    seconds = time.perf_counter() - start
                    item = {"key": key, "row": row, "clip": number, "change": edit.change}
                    item |= {"settings": settings.to_json(), "seconds": seconds} | measured(
                        edit, edited, clip
                    )
                    done[key] = item
                    log.write(json.dumps(item) + "\n")
                    log.flush()
                items.append(done[key])
            print(f"\r{number - options.first + 1}/{options.clips}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    show(options.rows, items)


def show(rows: list[str], items: list[dict]) -> None:
    """Means with 95% intervals, and of every row but the first the mean difference to it."""
    table = Table("row", *FIGURES, "seconds", box=None)
    by = {(item["row"], item["clip"]): item for item in items}
    for row in dict.fromkeys(rows):
        mine = {clip: item for (name, clip), item in by.items() if name == row}
        cells = [estimate(mine, name, scale) for name, scale in FIGURES.items()]
        table.add_row(row, *cells, f"{sum(item['seconds'] for item in mine.values()) / len(mine):.1f}")
        if row != rows[0]:
            base = {clip: by[rows[0], clip] for clip in mine}
            cells = [estimate(mine, name, scale, base) for name, scale in FIGURES.items()]
            table.add_row("  minus the first", *cells, "", style="dim")
    Console(width=170).print(table)


def estimate(items: dict[int, dict], name: str, scale: float, base: dict[int, dict] | None = None) -> str:
    """A figure with its interval; a difference whose interval leaves out zero is marked."""
    pairs = [
        (clip, scale * (item[name] - (base[clip][name] if base else 0)))
        for clip, item in items.items()
        if item[name] is not None
    ]
    if not pairs:
        return "-"
    found: Estimate = cluster_bootstrap([value for _, value in pairs], [clip for clip, _ in pairs])
    mark = "*" if base and found.excludes(0) else ""
    return f"{found.mean:.2f}{mark} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    main()
