"""Seconds and peak memory of an edit, stage by stage, against the number of frames; each in a process of its own.

    .venv/bin/python benchmarks/edit.py                        # 8 to 128 frames at 128 x 128, mini, both hosts
    .venv/bin/python benchmarks/edit.py --frames 8,16 --steps 10 --threads 1 --json results.json

Every host is compared with `frame`, which edits frames one by one, in the same run. Seconds include loading the model;
memory is the most that the process held at any time (resident set), and on a GPU also what PyTorch held there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BASELINE = "frame"
STAGES = ("load", "hash", "encode", "invert", "sample", "decode", "write")

MEASURED = """
import json, sys
from evenreel.settings import EditSettings
from evenreel.workflows.editing.edit import edit_file
source, out, settings = sys.argv[1:]
record = edit_file(source, out, EditSettings.from_json(json.loads(settings))).record
print(json.dumps({key: record[key] for key in ("seconds", "peak_memory", "frames")}))
"""

RENDER = """
import sys
from pathlib import Path
from evenreel import world
from evenreel.workflows.world.demo import SCENE, write_source
write_source(Path(sys.argv[1]), world.render(SCENE, range(int(sys.argv[2])), int(sys.argv[3])).frames)
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", default="8,16,32,64,128", help="numbers of frames, comma-separated")
    parser.add_argument("--hosts", default="frame,vidtome", help="hosts, comma-separated")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--size", type=int, default=128, help="side of the source, in pixels")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: as many as it takes")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    return parser.parse_args()


def python(code: str, *given: str, threads: int | None) -> str:
    """Run code in a fresh interpreter, so that its peak memory is its own; returns what it printed."""
    env = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    return subprocess.run(
        [sys.executable, "-c", code, *given], env=env, check=True, capture_output=True, text=True
    ).stdout


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows = []
    hosts = [BASELINE, *(host for host in options.hosts.split(",") if host != BASELINE)]
    for count in map(int, options.frames.split(",")):
        source = folder / f"{count}.mp4"
        python(RENDER, str(source), str(count), str(options.size), threads=options.threads)
        for host in hosts:
            names = ("model", "steps", "batch", "device", "dtype")
            settings = {
                "prompt": "a blue star rolling over snow",
                "source_prompt": "a red circle rolling over grass",
            }
            settings |= {name: getattr(options, name) for name in names} | {"host": host}
            found = json.loads(
                python(
                    MEASURED,
                    str(source),
                    str(folder / "out.mp4"),
                    json.dumps(settings),
                    threads=options.threads,
                )
            )
            total = sum(found["seconds"].values())
            rows.append(
                {"frames": count, "host": host, "total": total, **found["seconds"], **found["peak_memory"]}
            )
            show(rows[-1], next(row for row in rows if row["frames"] == count and row["host"] == BASELINE))
    return rows


def show(row: dict[str, Any], baseline: dict[str, Any]) -> None:
    stages = " ".join(f"{row.get(stage, 0.0):7.2f}" for stage in STAGES)
    memory = "      -" if row["process_bytes"] is None else f"{row['process_bytes'] / 2**30:7.2f}"
    device = "      -" if row["device_bytes"] is None else f"{row['device_bytes'] / 2**30:7.2f}"
    ratio = row["total"] / baseline["total"]
    print(
        f"{row['frames']:6d} {row['host']:9s} {stages} {row['total']:8.2f} {ratio:6.2f} {memory} {device}",
        flush=True,
    )


def main() -> None:
    options = arguments()
    print(
        f"{platform.platform()}, {os.cpu_count()} cores; {options.model}, {options.size} px, {options.steps} steps"
    )
    stages = " ".join(f"{stage:>7s}" for stage in STAGES)
    print(f"frames host      {stages}    total  ratio  GiB RAM GiB GPU   (seconds; ratio to {BASELINE})")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
