"""How much less an edit of a clip takes once another prompt was tried on it: processor seconds of whole commands.

    python benchmarks/second_prompt.py                       # all ways, mini, the demo's clip, 8 frames
    python benchmarks/second_prompt.py --ways kept "kept, ddim" --json lines.jsonl

Each way is two commands of one thread, with other prompts and one cache that is empty at first. A command's seconds are
all that its process took, start and writing included; other programs on the machine disturb them by a tenth or two.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "kept": ("--reuse-source",),
    "kept, ddim": ("--reuse-source", "--inversion", "ddim"),
    "kept, fixed-point": ("--reuse-source", "--inversion", "fixed-point"),
    "kept, ddim, 0.3:1": ("--reuse-source", "--inversion", "ddim", "--guidance-interval", "0.3:1"),
    "frame, ddim": ("--host", "frame", "--inversion", "ddim"),
    "tokenflow, ddim": ("--host", "tokenflow", "--inversion", "ddim"),
    "vidtome, ddim": ("--host", "vidtome", "--inversion", "ddim"),
    "text2video_zero, ddim": ("--host", "text2video_zero", "--inversion", "ddim"),
    "vid2vid_zero, ddim": ("--host", "vid2vid_zero", "--inversion", "ddim"),
}
PROMPTS = ("a blue star", "a green square")
RENDER = """
import sys
from pathlib import Path
from evenreel import world
from evenreel.workflows.world.demo import SCENE, write_source
write_source(Path(sys.argv[1]), world.render(SCENE, range(int(sys.argv[2])), 128).frames)
"""


def seconds(env: dict[str, str], *told: str) -> float:
    """Run a command in a process of its own; returns the processor's seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *told], env=env, cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--json", type=Path, help="add the figures to this file as well")
    options = parser.parse_args()
    for way in options.ways:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            env = os.environ | {"OMP_NUM_THREADS": "1", "EVENREEL_CACHE": str(folder / "cache")}
            source = str(folder / "source.mp4")
            seconds(env, "-c", RENDER, source, str(options.frames))
            told = ("-m", "evenreel", "edit", source, "--source-prompt", "a red circle", *WAYS[way])
            taken, sampled = [], []
            for number, prompt in enumerate(PROMPTS):
                out = folder / f"{number}.mp4"
                more = ("--prompt", prompt, "--profile", "-o", str(out))
                taken.append(round(seconds(env, *told, *more), 1))
                (record,) = folder.glob(f"{number}*.json")
                stages = json.loads(record.read_text("utf-8"))["profile"]["stages"]
                sampled.append(stages["sample"])
            kept = sum(path.stat().st_size for path in (folder / "cache" / "inversions").rglob("*.*"))
            line = {
                "way": way,
                "frames": options.frames,
                "cpu_seconds": taken,
                "sample_cpu_seconds": [round(stage["cpu_seconds"], 1) for stage in sampled],
                "sample_rows": [stage["rows"] for stage in sampled],
                "kept_mb": round(kept / 1e6, 1),
            }
            print(json.dumps(line), flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
