"""Peak memory of edits against the length of the clip, host by host, and whether a still scene drifts.

    .venv/bin/python benchmarks/long.py                                     # 64 and 1,000 frames, all hosts
    .venv/bin/python benchmarks/long.py --frames 64,10000 --hosts vidtome --json lines.jsonl
    .venv/bin/python benchmarks/long.py --masks carried,by-model,removal    # masks painted on the middle frame

The clip is a picture that stands still, with sound; the model is tiny, with random weights. Memory is what the process
holds for itself (RssAnon), which leaves out maps of files: the system takes those back when it needs the room. Each
edit runs in a process of its own. What lies on disk in edits of 512 x 512 pixels once it is larger than
`evenreel.scratch` says, lies there here from the same number of frames on: limits are made smaller by as much as the
pictures are. Drift is the mean difference between the mean of the first hundred frames of the result and that of the
last hundred, in levels of 255. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

TESTS = Path(__file__).parents[1] / "tests"
HOSTS = ("frame", "vidtome", "tokenflow", "vid2vid_zero", "text2video_zero")
MASKS = ("carried", "by-model", "removal")
"""Edits with a mask: carried by flow, by a SAM 2, and what it shows removed."""

MEASURED = """
import json, re, sys, threading, time
from pathlib import Path
source, out, settings, shrink, job = sys.argv[1:]
from evenreel import scratch
from evenreel.diffusion import trajectory
from evenreel.settings import EditSettings
from evenreel.video import open_clip
from evenreel.workflows.editing.edit import edit_file
scratch.LIMIT //= int(shrink)
scratch.PIECE //= int(shrink)
trajectory.DEFAULT_MEMORY_LIMIT //= int(shrink)
held, going = [], True

def watch():
    while going:
        held.append(int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]))
        time.sleep(0.02)

watcher = threading.Thread(target=watch)
watcher.start()
stages = {}
def progress(stage, done, total):
    stages[stage] = max(held[-50:], default=0) / 1024
record = edit_file(
    source, out, EditSettings.from_json(json.loads(settings)), progress=progress, job=job or None
).record
going = False
watcher.join()
frames, first, last = record["frames"]["written"], [], []
count = min(100, frames // 2)
mean = lambda a, b: sum(w.double().sum(0) for w, _ in open_clip(out, a, b, window=8)) / (b - a)
drift = float((mean(0, count) - mean(frames - count, frames)).abs().mean())
print(json.dumps({"peak_mib": max(held) / 1024, "stages": stages, "drift": drift,
    "seconds": sum(record["seconds"].values())}))
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", default="64,1000", help="numbers of frames, comma-separated")
    parser.add_argument("--hosts", default=",".join(HOSTS), help="hosts, comma-separated")
    parser.add_argument("--masks", help="edits with masks in the place of hosts, comma-separated")
    parser.add_argument(
        "--size", type=int, default=32, help="side of the frames, in pixels, a multiple of 16"
    )
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--no-job", action="store_true", help="keep nothing on the way")
    parser.add_argument(
        "--pictures", action="store_true", help="write pictures: drift without that of a lossy codec"
    )
    parser.add_argument("--json", type=Path, help="add the figures to this file, a line each")
    return parser.parse_args()


def still_clip(path: Path, frames: int, size: int) -> Path:
    making = import_module("video.making")
    # lossless, or the codec would have frames differ
    options = {"crf": "0"}
    return making.write_clip(
        path, [making.corners(size, size)] * frames, rate=25, audio="aac", options=options
    )


def measure(
    source: Path, folder: Path, host: str, frames: int, options: argparse.Namespace
) -> dict[str, Any]:
    settings = {"prompt": "a star", "source_prompt": "a ball", "model": str(folder / "model")}
    settings |= {"host": host, "steps": options.steps, "batch": options.batch, "size": options.size}
    settings |= {"device": "cpu", "keep": "auto"}
    if host in MASKS:
        settings |= {"host": "frame", "mask": str(folder / "mask.png"), "mask_frame": frames // 2}
        settings |= {"remove": host == "removal"}
        settings |= {"mask_model": str(folder / "sam2")} if host == "by-model" else {}
    shrink = (512 // options.size) ** 2
    with tempfile.TemporaryDirectory(dir=folder) as run:
        job = "" if options.no_job else f"{run}/job"
        told = [
            str(source),
            f"{run}/out" if options.pictures else f"{run}/out.mp4",
            json.dumps(settings),
            str(shrink),
            job,
        ]
        said = subprocess.run(
            [sys.executable, "-c", MEASURED, *told], check=True, capture_output=True, text=True
        )
    return json.loads(said.stdout)


def main() -> None:
    options = arguments()
    sys.path.insert(0, str(TESTS))
    print("frames  host             peak MiB  drift of 255  seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        import_module("tiny").save_tiny(folder / "model")
        import_module("lookers").save_follower(folder / "sam2")
        painted = Image.new("L", (options.size, options.size))
        painted.paste(255, (options.size // 4, options.size // 4, options.size // 2, options.size // 2))
        painted.save(folder / "mask.png")
        for frames in map(int, options.frames.split(",")):
            source = still_clip(folder / f"{frames}.mp4", frames, options.size)
            for host in (options.masks or options.hosts).split(","):
                found = measure(source, folder, host, frames, options)
                print(
                    f"{frames:6d}  {host:15s}  {found['peak_mib']:8.1f}  {found['drift']:12.4f}  "
                    f"{found['seconds']:7.1f}",
                    flush=True,
                )
                row = {"frames": frames, "host": host, "size": options.size, "steps": options.steps}
                row |= {"batch": options.batch, "pictures": options.pictures}
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row | found) + "\n")


if __name__ == "__main__":
    main()
