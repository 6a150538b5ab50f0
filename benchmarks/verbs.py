"""What a wrong verb costs: the error of noise predictions under the caption of a clip, and under one with another verb.

    python benchmarks/verbs.py                                             # the packaged model and its motion modules
    python benchmarks/verbs.py --model FOLDER --motion FOLDER --out lines.jsonl

Where a wrong verb costs nothing, the model does not know what verbs mean, and clips from text cannot move as they are
told, however long they are sampled. Held-out clips of one object; both captions meet the same noise. A line for each
clip and timestep, and a table.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from evenreel.backbones import load_backbone
from evenreel.diffusion.ddim import add_noise
from evenreel.motion.attach import motion_attached
from evenreel.motion.folder import load_motion
from evenreel.training.trainee import autocast
from evenreel.world import HELD_OUT, caption, random_scene, render

FIRST, LENGTH, SIZE = 80_000, 16, 128
INSTEAD = {"resting": "rolling", "rolling": "resting", "sliding": "bouncing", "bouncing": "sliding"}
TIMESTEPS = (700, 850, 950)
"""Where place and motion are decided."""
MINI = Path(__file__).parents[1] / "src" / "evenreel" / "weights" / "mini-motion"


def lines(model: str, motion: Path, clips: int) -> list[dict[str, Any]]:
    """A line for each clip and timestep."""
    backbone = load_backbone(model)
    modules = load_motion(motion).to(backbone.device)
    generator = torch.Generator().manual_seed(0)
    found: list[dict[str, Any]] = []
    number = FIRST
    with torch.inference_mode(), motion_attached(backbone.unet, modules, LENGTH):
        while len(found) < clips * len(TIMESTEPS):
            scene = random_scene(HELD_OUT + number, objects=1)
            number += 1
            text, verb = caption(scene), scene.main.motion.kind
            if scene.style != "none" or verb not in text:
                continue
            latents = backbone.encode(render(scene, range(LENGTH), SIZE).frames)
            for timestep in TIMESTEPS:
                noise = torch.randn(latents.shape, generator=generator).to(latents)
                noisy = add_noise(latents, noise, backbone.schedule.alpha(timestep))
                line: dict[str, Any] = {"clip": number - 1, "verb": verb, "timestep": timestep}
                for name, said in (("right", text), ("wrong", text.replace(verb, INSTEAD[verb]))):
                    with autocast(backbone.device, "bfloat16"):
                        predicted = backbone.predict_noise(noisy, timestep, backbone.embed([said]))
                    line[name] = float((predicted.float() - noise).square().mean())
                found.append(line)
    return found


def main() -> None:
    """Print a table, and write the lines where a file is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--motion", type=Path, default=MINI)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--name", default="packaged", help="what the lines call the model")
    parser.add_argument("--out", type=Path, help="a file that lines are added to")
    told = parser.parse_args()
    made = lines(told.model, told.motion, told.clips)
    if told.out is not None:
        with told.out.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps({"model": told.name, **line}) + "\n" for line in made)
    table = Table(title=f"{told.name}, {told.clips} clips")
    for title in ("timestep", "error", "wrong verb costs, % (mean, median)", "is worse in, %"):
        table.add_column(title)
    for timestep in TIMESTEPS:
        mine = [line for line in made if line["timestep"] == timestep]
        costs = [100 * (line["wrong"] / line["right"] - 1) for line in mine]
        table.add_row(
            str(timestep),
            f"{fmean(line['right'] for line in mine):.5f}",
            f"{fmean(costs):+.2f}, {median(costs):+.2f}",
            f"{100 * fmean(cost > 0 for cost in costs):.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
