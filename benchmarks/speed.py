"""What makes edits faster, as ratios of processor time to the same edit without, in one run; peak memory; start-up.

    .venv/bin/python benchmarks/speed.py                          # mini, a tiny model and a middle one, 8 frames
    .venv/bin/python benchmarks/speed.py --models mini --frames 16 --json results.json
    .venv/bin/python benchmarks/speed.py --models "" --start-up
    .venv/bin/python benchmarks/speed.py --models mini,tiny --call-sizes   # what a row costs in small and large calls

Each row is an edit in a process of its own, so that its peak memory is its own. Seconds are those of the sampling, of
processor time, which other programs on the machine hardly change. The tiny and the middle model have random weights:
their edits show nothing, and take as long as any. What the levers do to quality: docs/performance.md and
benchmarks/edits.py.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LEVERS: dict[str, dict[str, Any]] = {
    "without": {"exact": True, "dtype": "float32"},
    "mixed precision": {"exact": True, "dtype": "mixed"},
    "guidance in 0.3:1": {"exact": True, "dtype": "float32", "guidance_interval": [0.3, 1.0]},
    "16 steps": {"exact": True, "dtype": "float32", "steps": 16},
    "features shared by 2": {"exact": True, "dtype": "float32", "cache_interval": 2},
    "all four": {
        "exact": True,
        "dtype": "mixed",
        "guidance_interval": [0.3, 1.0],
        "steps": 16,
        "cache_interval": 2,
    },
}
"""Settings of each row; the first is what the others are compared with."""
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "middle": {"block_out_channels": (64, 128, 256, 256), "sample_size": 32, "attention_head_dim": 8},
}
"""Of models with random weights, how the noise predictor differs from that of the tests' model."""

EDIT = """
import json, sys
from evenreel.settings import EditSettings
from evenreel.workflows.editing.edit import edit_file
source, out, settings = sys.argv[1:]
record = edit_file(source, out, EditSettings.from_json(json.loads(settings)), profile=True).record
print(json.dumps({"sample": record["profile"]["stages"]["sample"], "peak_memory": record["peak_memory"]}))
"""
CALLS = """
import json, sys, time
import torch
from evenreel.backbones import load_backbone
backbone = load_backbone(sys.argv[1], device="cpu", dtype="float32")
text = backbone.embed(["a blue star"])
size, taken = backbone.unet.config.sample_size, {}
for turn in range(4):
    for rows in json.loads(sys.argv[2]):
        latents = torch.randn(rows, backbone.unet.config.in_channels, size, size)
        embeds = text.expand(rows, -1, -1) if isinstance(text, torch.Tensor) else text
        begun = time.process_time()
        with torch.inference_mode():
            backbone.predict_noise(latents, 500, embeds)
        if turn:
            taken.setdefault(rows, []).append((time.process_time() - begun) / rows)
print(json.dumps({rows: min(times) for rows, times in taken.items()}))
"""
CALL_SIZES = (1, 3, 6, 12, 24, 48, 96)
"""Rows of a call; 24 are the eight frames of `--batch` in three branches, and are what the others are compared with."""
MODEL = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tiny import save_tiny
save_tiny(Path(sys.argv[2]), unet_changes=json.loads(sys.argv[3]))
"""
RENDER = """
import sys
from pathlib import Path
from evenreel import world
from evenreel.workflows.world.demo import SCENE, write_source
write_source(Path(sys.argv[1]), world.render(SCENE, range(int(sys.argv[2])), 128).frames)
"""
FIRST_CALL = """
import torch
from evenreel.backbones import load_backbone
mini = load_backbone("mini")
with torch.inference_mode():
    mini.predict_noise(torch.zeros(1, 4, 16, 16), 500, mini.embed(["a red circle"]))
"""
START_UP = {
    "evenreel --help": ("-m", "evenreel", "--help"),
    "evenreel edit --help": ("-m", "evenreel", "edit", "--help"),
    "first network call of mini": ("-c", FIRST_CALL),
    "import of PyTorch alone": ("-c", "import torch"),
    "import of PyTorch and diffusers' noise predictor": (
        "-c",
        "from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel",
    ),
}


def python(*told: str) -> str:
    """Run a fresh interpreter with one thread; returns what it printed."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *told], env=env, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


def located(model: str, folder: Path) -> str:
    """Where a model lies; one of MODELS is made in the folder."""
    if model not in MODELS:
        return model
    location = str(folder / model)
    python("-c", MODEL, str(ROOT / "tests"), location, json.dumps(MODELS[model]))
    return location


def calls(model: str, folder: Path) -> list[dict[str, Any]]:
    """What a row costs in network calls of each size, without motion modules: the shortest of three."""
    taken = json.loads(python("-c", CALLS, located(model, folder), json.dumps(CALL_SIZES)))
    rows: list[dict[str, Any]] = []
    for size in CALL_SIZES:
        cost = taken[str(size)]
        row = {"model": model, "rows_in_a_call": size, "cpu_ms_a_row": round(1e3 * cost, 2)}
        rows.append(row | {"times_that_of_24": round(cost / taken["24"], 2)})
        print(
            f"{model:8s}{size:4d} rows a call {1e3 * cost:9.2f} ms a row {cost / taken['24']:6.2f}",
            flush=True,
        )
    return rows


def edits(model: str, frames: int, folder: Path) -> list[dict[str, Any]]:
    """Each row of LEVERS on one model."""
    source = folder / "source.mp4"
    python("-c", RENDER, str(source), str(frames))
    location = located(model, folder)
    told = {
        "prompt": "a blue star",
        "source_prompt": "a red circle",
        "host": "frame",
        "keep": "off",
        "model": location,
    }
    rows: list[dict[str, Any]] = []
    for name, levers in LEVERS.items():
        settings = json.dumps({**told, **levers})
        found = json.loads(python("-c", EDIT, str(source), str(folder / "out.mkv"), settings))
        sample, memory = found["sample"], found["peak_memory"]["process_bytes"] / 2**20
        row = {"model": model, "levers": name, "frames": frames, **sample, "peak_mib": round(memory)}
        rows.append(row)
        times = rows[0]["cpu_seconds"] / max(row["cpu_seconds"], 1e-9)
        rows[-1]["times_faster"] = round(times, 2)
        print(
            f"{model:8s}{name:20s}{sample['cpu_seconds']:9.2f} s {times:6.2f}x {sample['rows']:6d} rows "
            f"{sample['gflop']:9.0f} GFLOP {memory:7.0f} MiB",
            flush=True,
        )
    return rows


def start_up() -> list[dict[str, Any]]:
    """The shorter of two runs of each, in seconds of the clock and of the processor."""
    rows: list[dict[str, Any]] = []
    for name, told in START_UP.items():
        taken: list[tuple[float, float]] = []
        for _ in range(2):
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            python(*told)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            taken.append((cpu, time.perf_counter() - started))
        cpu, wall = min(taken)
        rows.append({"start_up": name, "cpu_seconds": round(cpu, 2), "seconds": round(wall, 2)})
        print(f"{name:30s}{cpu:6.2f} s of CPU, {wall:6.2f} s", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="mini,tiny,middle", help="mini, tiny, middle, or folders")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--start-up", action="store_true", help="also how long commands take to begin")
    parser.add_argument(
        "--call-sizes", action="store_true", help="what a row costs in calls of several sizes, and no edits"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in filter(None, options.models.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            rows += calls(model, place) if options.call_sizes else edits(model, options.frames, place)
    if options.start_up:
        rows += start_up()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
