"""How well a mask that is painted on the first frame of a rendered clip is carried to later ones.

    .venv/bin/python benchmarks/carried_masks.py --clips 16 --json docs/edits/carried.jsonl

The world knows the exact mask of the main object in every frame. The figure is the overlap (intersection over union) of
the carried mask with it; beside it that of the painted mask left as it stands. Needs OpenCV.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from evenreel.ops.carrying import Carrier
from evenreel.world import HELD_OUT, random_scene, render

AFTER = (8, 16, 64)
"""Frames behind the painted one at which masks are compared."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--first", type=int, default=HELD_OUT, help="seed of the first scene")
    parser.add_argument("--size", type=int, default=128, help="side of the frames, in pixels")
    parser.add_argument("--json", type=Path, help="add the figures to this file, a line each")
    return parser.parse_args()


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the intersection of two masks over their union; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def measured(seed: int, size: int) -> dict[str, object]:
    rendering = render(random_scene(seed), range(AFTER[-1] + 1), size, maps=False)
    pictures = (rendering.frames * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    exact = rendering.masks[:, -1] > 0.5
    carrier = Carrier(pictures[0], exact[0].numpy())
    carried, still = {}, {}
    start = time.perf_counter()
    for number in range(1, len(pictures)):
        mask = torch.from_numpy(carrier.next(pictures[number]))
        if number in AFTER:
            carried[str(number)] = round(overlap(mask, exact[number]), 4)
            still[str(number)] = round(overlap(exact[0], exact[number]), 4)
    seconds = (time.perf_counter() - start) / AFTER[-1]
    return {
        "seed": seed,
        "size": size,
        "carried": carried,
        "still": still,
        "seconds_a_frame": round(seconds, 4),
    }


def main() -> None:
    options = arguments()
    rows = []
    for seed in range(options.first, options.first + options.clips):
        rows.append(row := measured(seed, options.size))
        print(json.dumps(row), flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    for kind in ("carried", "still"):
        means = [sum(row[kind][str(after)] for row in rows) / len(rows) for after in AFTER]
        print(kind, " ".join(f"{mean:.3f}" for mean in means))


if __name__ == "__main__":
    main()
