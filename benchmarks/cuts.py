"""How many cuts between scenes of the world are found, and what is taken for one that is none.

    python benchmarks/cuts.py                    # 60 scenes of 16 frames, one after the other; then each by itself
    python benchmarks/cuts.py --out FILE.jsonl   # and a line for each kind

`cuts`: scenes joined end to end. `fades`: each dissolves into the next within 8 frames. `flashes`: two white frames in
the middle of each scene. `scenes`: each by itself. In the last three, whatever is found is wrong.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from evenreel.ops.cuts import THRESHOLD, CutFinder
from evenreel.types import Frames
from evenreel.world import HELD_OUT, random_scene, render

LENGTH, SIZE, FADE = 16, 128, 8


def found(clip: Frames, threshold: float) -> set[int]:
    """Numbers of the frames at which a scene is said to begin."""
    finder = CutFinder(threshold)
    finder.see(clip)
    return set(finder.cuts())


def dissolved(first: Frames, second: Frames) -> Frames:
    """The first, then frames blended of both, then the second."""
    share = torch.linspace(0, 1, FADE + 2)[1:-1].view(-1, 1, 1, 1)
    return torch.cat([first, (1 - share) * first[-FADE:] + share * second[:FADE], second])


def flashed(clip: Frames) -> Frames:
    """With two white frames in its middle."""
    changed = clip.clone()
    changed[LENGTH // 2 : LENGTH // 2 + 2] = 1
    return changed


def lines(first: int, count: int, threshold: float) -> Iterator[dict[str, object]]:
    """What is found of each kind."""
    scenes = [
        render(random_scene(HELD_OUT + number), range(LENGTH), SIZE, maps=False).frames
        for number in range(first, first + count)
    ]
    seen = found(torch.cat(scenes), threshold)
    true = set(range(LENGTH, LENGTH * count, LENGTH))
    yield {"kind": "cuts", "clips": count - 1, "found": len(seen & true), "wrong": len(seen - true)}
    pairs = itertools.pairwise(scenes)
    for kind, clips in (
        ("fades", [dissolved(*pair) for pair in pairs]),
        ("flashes", list(map(flashed, scenes))),
        ("scenes", scenes),
    ):
        yield {
            "kind": kind,
            "clips": len(clips),
            "wrong": sum(bool(found(clip, threshold)) for clip in clips),
        }


def main() -> None:
    """Print the lines, and write them where told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=90_000)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    made = "".join(json.dumps(line) + "\n" for line in lines(told.first, told.count, told.threshold))
    print(made, end="")
    if told.out is not None:
        told.out.write_text(made, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
