"""How near the removal of an object comes to the rendered clip without it.

    .venv/bin/python benchmarks/removal.py --clips 24 --json docs/edits/removal.jsonl

Clips are scenes of the world with one object; the right answer is the same scene with the object out of sight. Figures
are PSNR in dB against the answer, over all pixels that show the object: of the source as it stands, of OpenCV's
inpainting (Navier-Stokes) of each frame by itself, and of what `--remove` makes. Masks are exact, and grown as
`--remove` grows them. Needs OpenCV.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch

from evenreel.ops.regions import grown
from evenreel.ops.removal import RADIUS, filled
from evenreel.workflows.editing.regions.removed import margin_of
from evenreel.world import HELD_OUT, Scene, random_scene, render

FAR = (50.0, 50.0)
"""Where an object is out of sight."""
KINDS = ("source", "inpainted", "removed")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first", type=int, default=HELD_OUT, help="seed of the first scene")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, help="side of the frames, in pixels")
    parser.add_argument(
        "--strips", type=Path, help="folder for film strips of all of them, one below the other"
    )
    parser.add_argument("--json", type=Path, help="add the figures to this file, a line each")
    return parser.parse_args()


def without(scene: Scene) -> Scene:
    """Return the scene with its object out of sight."""
    main = replace(scene.main, motion=replace(scene.main.motion, start=FAR))
    return replace(scene, objects=(*scene.objects[:-1], main))


def levels(frames: torch.Tensor) -> torch.Tensor:
    return (frames * 255).round().byte().permute(0, 2, 3, 1).contiguous()


def psnr(one: torch.Tensor, other: torch.Tensor, where: torch.Tensor) -> float:
    error = (one.double() - other.double()).square()[where].mean()
    return round(float(10 * torch.log10(255**2 / error.clamp_min(1e-4))), 3)


def measured(seed: int, options: argparse.Namespace) -> dict[str, object]:
    scene = random_scene(seed, objects=1)
    shown = render(scene, range(options.frames), options.size, maps=False)
    source = levels(shown.frames)
    answer = levels(render(without(scene), range(options.frames), options.size, maps=False).frames)
    part = shown.masks[:, -1] > 0.01
    hidden = grown(part, margin_of(options.size, options.size))
    inpainted = torch.stack(
        [
            torch.from_numpy(cv2.inpaint(frame.numpy(), hole.byte().numpy(), RADIUS, cv2.INPAINT_NS))
            for frame, hole in zip(source, hidden, strict=True)
        ]
    )
    removed = torch.stack([torch.from_numpy(frame) for frame in filled(source, hidden)])
    if options.strips:
        every = slice(None, None, max(1, options.frames // 6))
        rows = [np.hstack(list(clip[every].numpy())) for clip in (source, answer, inpainted, removed)]
        cv2.imwrite(str(options.strips / f"{seed - options.first}.png"), np.vstack(rows)[..., ::-1])
    found = zip(KINDS, (source, inpainted, removed), strict=True)
    figures = {kind: psnr(clip, answer, part) for kind, clip in found}
    moves = any(scene.camera.velocity) or scene.camera.zoom != 0
    about = {"seed": seed, "size": options.size, "frames": options.frames, "background": scene.background}
    return {**about, "style": scene.style, "camera_moves": moves, **figures}


def main() -> None:
    options = arguments()
    rows = []
    for seed in range(options.first, options.first + options.clips):
        rows.append(row := measured(seed, options))
        print(json.dumps(row), flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print("mean dB:", ", ".join(f"{kind} {fmean(row[kind] for row in rows):.2f}" for kind in KINDS))


if __name__ == "__main__":
    main()
