"""Whether what an edit leaves alone stays calm in longer clips: a camera that moves, and two hundred frames.

    python benchmarks/longer_clips.py --out runs/longer                # figures, and film strips to look at
    python benchmarks/longer_clips.py --json docs/edits/kept-long.jsonl

`camera` is a window that slides over a larger rendering of a resting disc, which is to be striped; `long` a disc that
rolls to and fro, which is to be blue. Levels, of 255, are how far the edit is from the source where neither the object
nor its outline is, by the world's exact masks: on average, in the worst frame, and by how much that changes from one
frame to the next. Shares are what of a frame's cells `--keep auto` keeps.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from evenreel.backbones import load_backbone
from evenreel.settings import EditSettings
from evenreel.types import Frames
from evenreel.video import film_strip, from_model
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.world.edits import SIZE, edit_pipeline
from evenreel.world import HELD_OUT, Scene, caption, random_scene, render

MARGIN = 8
"""Pixels around the object that are left out: a cell of the latents."""


def camera() -> tuple[Scene, Scene, Frames, Tensor]:
    """A scene, what it is to be, 24 frames of it and where its object is."""
    scene, wide = random_scene(HELD_OUT + 63_001, objects=1), SIZE + 48
    seen = render(scene, range(24), wide, maps=False)
    places = [(round(24 * number / 23), round(48 * number / 23)) for number in range(24)]

    def window(pictures: Tensor) -> Tensor:
        parts = zip(pictures, places, strict=True)
        return torch.stack([picture[..., y : y + SIZE, x : x + SIZE] for picture, (y, x) in parts])

    return scene, scene.edited(texture="striped"), window(seen.frames), window(seen.masks[:, -1])


def long() -> tuple[Scene, Scene, Frames, Tensor]:
    """The same of 200 frames."""
    scene = random_scene(HELD_OUT + 64_009, objects=1)
    seen = render(scene, range(24), SIZE, maps=False)
    order = [min(number % 46, 46 - number % 46) for number in range(200)]
    return scene, scene.edited(colour="blue"), seen.frames[order], seen.masks[order, -1]


CLIPS = {"camera": (camera, None), "long": (long, 12)}
"""The clips, and steps where they are not the default's."""


def measured(name: str, backbone: Any, out: Path | None) -> dict[str, Any]:
    """Edit one of them."""
    made, steps = CLIPS[name]
    scene, target, frames, masks = made()
    settings = EditSettings(prompt=caption(target), source_prompt=caption(scene), steps=steps)
    pipeline = edit_pipeline(backbone, settings)
    latents = backbone.encode(frames)
    region = region_of(pipeline, latents)
    assert region is not None, "a part of it changes"
    edited = backbone.decode(pipeline.edit(latents, region=region)).cpu()
    edited = region.put_back_whole(edited, backbone.decode(latents).cpu(), frames)
    object_at = F.max_pool2d((masks > 0).float()[:, None], 2 * MARGIN + 1, 1, MARGIN)[:, 0] > 0
    levels = list(around(255 * (edited - frames).abs().amax(1), ~object_at))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows = [from_model(clip, (SIZE, SIZE)) for clip in (frames, edited)]
        film_strip(rows, [caption(scene), caption(target)], out / f"{name}.png", columns=24)
    return {
        "clip": name,
        "frames": len(frames),
        "background_levels": round(sum(levels) / len(levels), 3),
        "worst_frame_levels": round(max(levels), 3),
        "largest_step_levels": round(largest_step(levels), 3),
        "least_share": round(min(region.shares), 4),
        "most_share": round(max(region.shares), 4),
        "largest_step_share": round(largest_step(region.shares), 4),
    }


def around(difference: Tensor, places: Tensor) -> Iterator[float]:
    """Yield the mean of each frame over some places."""
    for one, where in zip(difference, places, strict=True):
        yield float(one[where].mean())


def largest_step(values: list[float]) -> float:
    """Return the largest change from one value to the next."""
    return max(abs(after - before) for before, after in pairwise(values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for film strips")
    parser.add_argument("--json", type=Path, help="write the figures to this file, a line each")
    options = parser.parse_args()
    backbone = load_backbone("mini")
    lines = []
    for name in CLIPS:
        lines.append(json.dumps(measured(name, backbone, options.out)))
        print(lines[-1], flush=True)
    if options.json:
        options.json.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
