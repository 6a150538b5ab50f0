"""How near edits with a prompt for each region come to the right answer.

    python benchmarks/regional.py --clips 8 --frames 4 --json docs/edits/regional.jsonl --strips runs/regional

Held-out clips of the world, edited by the defaults: the left half is to have one background and the right half another,
and the answer is cut together from two renderings. Ways: `regions`, the right half has a prompt of its own; `cut`, two
edits of the whole clip, one for each prompt, cut together by pixels; `whole`, one edit, with the left half's prompt
alone. Figures are PSNR in dB against the answer, in each half without 8 pixels on both sides of the line between them
and in these 16 pixels; and whether a half is nearer to the rendering with its background than to those with each of the
seven others. `beyond` is the PSNR of the left half against what `whole` has there.
"""

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from evenreel.backbones import Backbone, load_backbone
from evenreel.settings import EditSettings, RegionUse
from evenreel.types import Frames
from evenreel.video import film_strip, from_model
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.world.edits import SIZE, edit_pipeline
from evenreel.world import ATTRIBUTES, HELD_OUT, Scene, caption, random_scene, render

FIRST = 70_000
LINE, BESIDE = SIZE // 2, 8
"""Where the halves meet, and pixels on either side of it that are not measured."""
NEAR = slice(LINE - BESIDE, LINE + BESIDE)
HALVES = {"left": slice(0, LINE - BESIDE), "right": slice(LINE + BESIDE, SIZE)}
WAYS = ("regions", "cut", "whole")


def edited(
    backbone: Backbone, frames: Frames, source: str, prompt: str, right: str | None = None
) -> tuple[Frames, float]:
    """An edit by the defaults, with a prompt of the right half's own unless that is None; and its CPU seconds."""
    region = None if right is None else (RegionUse(mask="right half", prompt=right),)
    settings = EditSettings(prompt=prompt, source_prompt=source, region=region)
    pipeline, start = edit_pipeline(backbone, settings), time.process_time()
    latents = backbone.encode(frames)
    if region is not None:
        places = torch.zeros(len(latents), *latents.shape[2:], dtype=torch.uint8)
        places[:, :, places.shape[2] // 2 :] = 1
        pipeline = replace(pipeline, places=places)
    where = region_of(pipeline, latents)
    made = backbone.decode(pipeline.edit(latents, region=where))
    if where is not None:
        made = where.put_back_whole(made, backbone.decode(latents), frames)
    return made.cpu(), time.process_time() - start


def cut_together(left: Frames, right: Frames) -> Frames:
    return torch.cat([left[..., :LINE], right[..., LINE:]], dim=-1)


def psnr(one: Frames, other: Frames) -> float:
    error = (one.double() - other.double()).square().mean()
    return float(10 * torch.log10(1 / error.clamp_min(1e-9)))


def measured(
    made: Frames, answer: Frames, others: dict[str, Frames], wanted: dict[str, str]
) -> dict[str, object]:
    """PSNR of each half, and whether no other background is nearer."""
    figures: dict[str, object] = {}
    for half, columns in HALVES.items():
        near = {name: psnr(made[..., columns], clip[..., columns]) for name, clip in others.items()}
        figures[f"{half}_psnr"] = round(psnr(made[..., columns], answer[..., columns]), 3)
        figures[f"{half}_right"] = max(near, key=near.__getitem__) == wanted[half]
    figures["line_psnr"] = round(psnr(made[..., NEAR], answer[..., NEAR]), 3)
    return figures


def backgrounds_of(scene: Scene) -> tuple[str, str]:
    """Two other backgrounds than the scene's."""
    others = [name for name in ATTRIBUTES["background"] if name != scene.background]
    left, right = random.Random(f"evenreel halves {scene.seed}").sample(others, 2)
    return left, right


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--strips", type=Path, help="folder for film strips")
    parser.add_argument("--json", type=Path, help="add the figures to this file, a line each")
    options = parser.parse_args()
    backbone = load_backbone("mini", device="cpu")
    rows: list[dict[str, object]] = []
    for number in range(options.first, options.first + options.clips):
        scene = random_scene(HELD_OUT + number, objects=1)
        drawn = {
            name: render(scene.edited(background=name), range(options.frames), SIZE, maps=False).frames
            for name in ATTRIBUTES["background"]
        }
        told = {name: caption(scene.edited(background=name)) for name in drawn}
        frames, (left, right) = drawn[scene.background], backgrounds_of(scene)
        source, answer = told[scene.background], cut_together(drawn[left], drawn[right])
        whole, whole_cpu = edited(backbone, frames, source, told[left])
        other, other_cpu = edited(backbone, frames, source, told[right])
        regions, regions_cpu = edited(backbone, frames, source, told[left], told[right])
        made = {
            "regions": (regions, regions_cpu),
            "cut": (cut_together(whole, other), whole_cpu + other_cpu),
            "whole": (whole, whole_cpu),
        }
        for way, (clip, seconds) in made.items():
            row: dict[str, object] = {"way": way, "clip": number, "style": scene.style}
            row |= {"source": scene.background, "left": left, "right": right}
            row |= measured(clip, answer, drawn, {"left": left, "right": right})
            row["beyond"] = round(psnr(clip[..., HALVES["left"]], whole[..., HALVES["left"]]), 3)
            row["cpu_seconds"] = round(seconds, 2)
            rows.append(row)
            print(json.dumps(row), flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        if options.strips:
            options.strips.mkdir(parents=True, exist_ok=True)
            shown = {f"source: {source}": frames, f"left: {told[left]}; right: {told[right]}": regions}
            shown |= {"cut together": made["cut"][0], "answer": answer}
            pixels = [from_model(clip, (SIZE, SIZE)) for clip in shown.values()]
            film_strip(pixels, list(shown), options.strips / f"{number}.png", columns=options.frames)
    for way in WAYS:
        mine = [row for row in rows if row["way"] == way]
        names = ("left_psnr", "right_psnr", "line_psnr", "cpu_seconds")
        means = {name: round(fmean(float(str(row[name])) for row in mine), 2) for name in names}
        hits = [sum(bool(row[f"{half}_right"]) for row in mine) for half in HALVES]
        print(way, means, hits, "of", len(mine))


if __name__ == "__main__":
    main()
