"""Clips made from text, judged by how their object moves: a line for each clip, shares by verb, and film strips.

    python benchmarks/clips_from_text.py                  # five prompts a verb, by the defaults of `evenreel generate`
    python benchmarks/clips_from_text.py motion=off --prompts 2
    python benchmarks/clips_from_text.py control=shuffled

Prompts are captions of held-out scenes whose motion can be seen: a plain disc or ring never rolls. A verb is right when
the judge of motion (evenreel.metrics.motion), which was made on rendered clips, says the same. Beside it stand what the
picture judge says of shape and colour, and whether it is one and the same object in all frames: IoU of neighbouring
frames' masks laid over each other, and drift of its colour. Each kind is told of rendered clips too: the best there is.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from evenreel.backbones import Backbone, load_backbone
from evenreel.metrics.judge import packaged_judge
from evenreel.metrics.motion import identity, track
from evenreel.settings import GenerateSettings
from evenreel.types import Frames
from evenreel.video import film_strip, from_model, to_model
from evenreel.workflows.editing.generate import generate_clip
from evenreel.world import HELD_OUT, Scene, caption, random_scene, render
from evenreel.world.scene import MOTIONS

FIRST = 70_000
"""Held-out scenes from here on give the prompts."""
LENGTH, SIZE = 16, 128
RENDERED = "rendered"


def scenes(verb: str, count: int) -> list[Scene]:
    """Held-out scenes that move so, and show it."""
    found: list[Scene] = []
    number = FIRST
    while len(found) < count:
        scene = random_scene(HELD_OUT + number, objects=1)
        number += 1
        thing = scene.main
        hidden = verb == "rolling" and thing.shape in ("circle", "ring") and thing.texture == "plain"
        if thing.motion.kind == verb and not hidden and scene.style == "none":
            found.append(scene)
    return found


def generated(backbone: Backbone, prompt: str, seed: int, changes: dict[str, Any]) -> Frames:
    """A clip by the defaults of `evenreel generate`, or with some settings changed."""
    told = {"prompt": prompt, "frames": LENGTH, "size": (SIZE, SIZE), "seed": seed, **changes}
    clip = generate_clip(GenerateSettings.from_json(told), backbone=backbone)
    return to_model(clip.frames, (SIZE, SIZE))


def judged(frames: Frames, scene: Scene) -> dict[str, Any]:
    """What the judges say of a clip."""
    shape = scene.attribute("shape")
    found = track(frames, shape)
    one = identity(frames, found)
    seen = packaged_judge().verdict(frames)
    right = {name: seen[name] == scene.attribute(name) for name in ("shape", "colour", "background")}
    return {
        "verb": found.kind,
        "outline_iou": one.outline_iou,
        "colour_drift": one.colour_drift,
        "fit": float(found.outlines.iou.median()),
        **right,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="name=value of the settings of `evenreel generate`")
    parser.add_argument("--prompts", type=int, default=5, help="a verb")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/clips_from_text"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    changes = dict(pair.split("=", 1) for pair in options.settings)
    shuffled = changes.pop("control", "") == "shuffled"
    backbone = load_backbone(options.model, device=options.device)
    items: list[dict[str, Any]] = []
    for verb in MOTIONS:
        strips: dict[str, Frames] = {}
        for seed, scene in enumerate(scenes(verb, options.prompts)):
            begun = time.perf_counter()
            frames = generated(backbone, caption(scene), seed, changes)
            seconds = time.perf_counter() - begun
            if shuffled:
                frames = frames[torch.randperm(LENGTH, generator=torch.Generator().manual_seed(seed))]
            strips[caption(scene)] = frames
            for kind, clip in (("", frames), (RENDERED, render(scene, range(LENGTH), SIZE).frames)):
                items.append(
                    {
                        "wanted": verb,
                        "prompt": caption(scene),
                        "kind": kind,
                        "seconds": seconds,
                        **judged(clip, scene),
                    }
                )
            print(json.dumps(items[-2]), flush=True)
        pixels = [from_model(clip, (SIZE, SIZE)) for clip in strips.values()]
        film_strip(pixels, list(strips), options.out / f"{verb}.png", columns=LENGTH)
    (options.out / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    table = Table(title=" ".join(options.settings) or "defaults")
    for title in (
        "verb", "clips", "verb right %", "shape %", "colour %", "background %", "outline IoU", "colour drift",
    ):  # fmt: skip
        table.add_column(title)
    for kind in ("", RENDERED):
        for verb in (*MOTIONS, "all"):
            rows = [item for item in items if item["kind"] == kind and verb in (item["wanted"], "all")]
            shares = [100 * fmean(item["verb"] == item["wanted"] for item in rows)]
            shares += [100 * fmean(item[name] for item in rows) for name in ("shape", "colour", "background")]
            middles = [median(item[name] for item in rows) for name in ("outline_iou", "colour_drift")]
            table.add_row(
                f"{verb} {kind}".strip(),
                str(len(rows)),
                *(f"{share:.0f}" for share in shares),
                *(f"{one:.3f}" for one in middles),
            )
    Console().print(table)
    print(f"strips and items: {options.out}")


if __name__ == "__main__":
    main()
