"""Edits of held-out clips of the world as an eye sees them: a line for each clip, means and medians, and film strips.

    python benchmarks/edits.py                                       # twelve clips by the defaults of `evenreel edit`
    python benchmarks/edits.py default tokenflow tokenflow,guidance_scale=5 --clips 12 --model FOLDER
    python benchmarks/edits.py frame frame,control=blur frame,control=frozen frame,control=shuffled
    python benchmarks/edits.py default,exact=true default,dtype=mixed default,exact=true,guidance_interval=[0.3,1]
    python benchmarks/edits.py --demo default,seed=0 default,seed=1  # the edit of `evenreel demo`
    python benchmarks/edits.py --card --frames 8 --first 10000 --clips 100   # those of the model card

A row is a host (`default` for that of `evenreel edit`) and, after commas, its settings, those of the edit, or those of
the inversion (`inversion.antithetic=false`). `control=`
spoils the finished edit: blur (one pixel), frozen (its first frame for ever), shuffled (its frames in another order),
source (the clip as it was).
Each clip has one to three attributes changed. Warp errors are given as multiples of what the right answer itself has,
along its own motion; where it has none, because nothing moves, there is a dash. The outline is that of the worst frame:
how much of it the shape asked for covers, placed, sized and turned as fits best (IoU). Found and right are of pixels:
of those that the right answer changes, how many the edit changes, and of those that it changes, how many the answer
does. Any size is the PSNR against the nearest of the right answers that show the shape asked for larger, smaller or
turned: of a disc that was a star, nothing in the source says how large it is. Finished items are kept in --out.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from evenreel.backbones import load_backbone
from evenreel.backbones.stable_diffusion import StableDiffusion
from evenreel.metrics.fidelity import psnr
from evenreel.metrics.outline import outline_iou
from evenreel.metrics.segmenter import packaged_segmenter
from evenreel.settings import EditSettings
from evenreel.types import Frames
from evenreel.video import film_strip, from_model
from evenreel.workflows.world import demo
from evenreel.workflows.world.edits import WorldEdit, edit_frames, measured, softened
from evenreel.world import caption, render

FIRST = 50_000
"""Held-out clips from here on: not those of the model card, the study, or that defaults are chosen on."""
WARPED = ("object", "ring", "rest")
MEASURED = (
    "asked",
    "kept",
    "truth_psnr",
    "object_truth_psnr",
    "ring_truth_psnr",
    "rest_truth_psnr",
    "object_motion_iou",
    "sharpness_ratio",
    "saturation_ratio",
    *(f"{part}_warp_error" for part in WARPED),
)
OF_TRUTH = ("object_motion_iou", *(f"{part}_warp_error" for part in WARPED))
"""What the right answer is measured in too."""
COLUMNS: Mapping[str, tuple[str, int]] = {
    "asked": ("asked %", 0),
    "kept": ("kept %", 0),
    "truth_psnr": ("PSNR dB", 1),
    "any_size_psnr": ("any size dB", 1),
    "object_truth_psnr": ("object dB", 1),
    "ring_truth_psnr": ("ring dB", 1),
    "rest_truth_psnr": ("rest dB", 1),
    "object_warp": ("warp x object", 1),
    "ring_warp": ("x ring", 1),
    "rest_warp": ("x rest", 1),
    "worst_outline": ("outline", 2),
    "found": ("found %", 0),
    "right": ("right %", 0),
    "object_motion_iou": ("mask IoU", 3),
    "truth_motion_iou": ("(answer)", 3),
    "sharpness_ratio": ("sharp", 2),
    "saturation_ratio": ("satur.", 2),
    "seconds": ("s", 0),
}
"""What is shown, its title and its decimals."""
LEVELS = 8 / 255
"""Difference of a colour beyond which a pixel counts as changed."""
SIZES = tuple(2 ** (step / 8) for step in range(-8, 9))
TURNS = tuple(2 * math.pi * step / 24 for step in range(24))
"""What a right answer of another size and turn has of the radius of the one, and beyond its angle."""
STILL = 1e-6
"""Warp error of the right answer below which nothing moves, and no multiple of it is told."""


def _shuffled(frames: Frames) -> Frames:
    return frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))]


CONTROLS: Mapping[str, Callable[[WorldEdit, Frames], Frames]] = {
    "": lambda _, frames: frames,
    "blur": lambda _, frames: softened(frames),
    "frozen": lambda _, frames: frames[:1].expand_as(frames),
    "shuffled": lambda _, frames: _shuffled(frames),
    "source": lambda edit, _: edit.source.frames,
}


def settings_of(row: str) -> tuple[dict[str, Any], str]:
    """`host,name=value,...` as settings of an edit, and the control."""
    host, *pairs = re.split(r",(?![^[]*\])", row)  # not inside a list
    values: dict[str, Any] = {} if host == "default" else {"host": host}
    options, inversion, control = {}, {}, ""
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if name == "control":
            control = text
        elif name.startswith("inversion."):
            inversion[name.removeprefix("inversion.")] = value
        elif name in EditSettings.__dataclass_fields__:
            values[name] = value
        else:
            options[name] = value
    if control not in CONTROLS:
        raise SystemExit(f"control must be one of {', '.join(filter(None, CONTROLS))}, got {control!r}.")
    return {**values, "host_options": options, "inversion_options": inversion}, control


def ratios(item: Mapping[str, Any]) -> dict[str, float | None]:
    """Warp errors as multiples of the right answer's."""
    found = {}
    for part in WARPED:
        ours, answers = item[f"{part}_warp_error"], item["answer"][f"{part}_warp_error"]
        if ours is None or answers is None or answers < STILL:
            found[f"{part}_warp"] = None
        else:
            found[f"{part}_warp"] = ours / answers
    return found


def shown(item: Mapping[str, Any]) -> dict[str, float | None]:
    """One item's values of COLUMNS."""
    shares = ("asked", "kept", "found", "right")
    percent = {name: None if item[name] is None else 100 * item[name] for name in shares}
    percent["worst_outline"] = min(item["outlines"])
    answer = {"truth_motion_iou": item["answer"]["object_motion_iou"]}
    every = {**item, **percent, **ratios(item), **answer}
    return {name: every[name] for name in COLUMNS}


def cells(values: Mapping[str, float | None]) -> list[str]:
    """Numbers for people."""
    return [
        "-" if values[name] is None else f"{values[name]:.{decimals}f}"
        for name, (_, decimals) in COLUMNS.items()
    ]


def outlines(edit: WorldEdit, frames: Frames) -> list[float]:
    """How near each frame's object comes to the shape that it should have."""
    found = outline_iou(packaged_segmenter().masks(frames), edit.target.objects[0].shape)
    return [round(value, 3) for value in found.tolist()]


def areas(edit: WorldEdit, frames: Frames) -> dict[str, float]:
    """Pixels of a frame that the object covers, on average."""
    clips = {"source": edit.source.frames, "edit": frames, "answer": edit.truth.frames}
    share = {name: packaged_segmenter().masks(clip).float().mean() for name, clip in clips.items()}
    return {name: round(float(value) * frames[0, 0].numel()) for name, value in share.items()}


def changed_pixels(edit: WorldEdit, frames: Frames) -> dict[str, float]:
    """How many of the pixels that should change do (found), and how many of those that do should (right), of 1."""
    source = edit.source.frames
    wanted, made = ((clip - source).abs().amax(1) > LEVELS for clip in (edit.truth.frames, frames))
    both = float((wanted & made).sum())
    return {"found": both / max(1.0, float(wanted.sum())), "right": both / max(1.0, float(made.sum()))}


def any_size_psnr(edit: WorldEdit, frames: Frames) -> float:
    """PSNR against the nearest right answer of any size and turn where the shape changes, else against the only one."""
    nearest, best = psnr(frames, edit.truth.frames), edit.target
    if "shape" not in edit.change:
        return nearest
    radius, angle = best.main.radius, best.main.angle
    sized = [{"radius": radius * size} for size in SIZES]
    turned = [{"angle": angle + turn} for turn in TURNS]
    for ways in (sized, turned, sized):
        others = [replace(best, objects=(*best.objects[:-1], replace(best.main, **way))) for way in ways]
        for scene in others:
            near = psnr(frames, render(scene, range(edit.length), frames.shape[-1], maps=False).frames)
            if near > nearest:
                nearest, best = near, scene
    return nearest


def strip(edit: WorldEdit, frames: Mapping[str, Frames], path: Path) -> None:
    """Source, edits and right answer under each other, every frame."""
    rows = {
        f"source: {caption(edit.scene)}": edit.source.frames,
        **frames,
        f"right answer: {caption(edit.target)}": edit.truth.frames,
    }
    pixels = [from_model(clip, (clip.shape[3], clip.shape[2])) for clip in rows.values()]
    film_strip(pixels, list(rows), path, columns=edit.length)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", default=["default"])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--numbers", type=int, nargs="+", help="clips, in place of --first and --clips")
    parser.add_argument("--demo", action="store_true", help="the clip and the change of `evenreel demo`")
    parser.add_argument(
        "--card",
        action="store_true",
        help="change one attribute, shape to style in turn, as the model card does",
    )
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--most", type=int, default=3, help="attributes changed at most")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/edits"))
    options = parser.parse_args()
    rows = list(dict.fromkeys(options.rows))
    told = {row: settings_of(row) for row in rows}

    backbone = load_backbone(options.model, device=options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "edits.jsonl"
    done = {}
    if record.exists():
        done = {item["key"]: item for item in map(json.loads, record.read_text().splitlines())}
    items: list[dict[str, Any]] = []
    numbers: list[Any] = list(options.numbers or range(options.first, options.first + options.clips))
    numbers = ["demo"] if options.demo else numbers
    for count, number in enumerate(numbers, 1):
        if options.demo:
            edit = WorldEdit(demo.SCENE, demo.CHANGES, options.frames)
        elif options.card:
            edit = WorldEdit.held_out(number, options.frames)
        else:
            edit = WorldEdit.drawn(number, options.frames, options.most)
        made: dict[
            str, tuple[Frames, float, float]
        ] = {}  # rows that differ in the control alone share an edit
        strips: dict[str, Frames] = {}
        for row in rows:
            values, control = told[row]
            settings = edit.settings(**values)
            key = json.dumps([settings.to_json(), control, number, edit.length, backbone.fingerprint])
            if key not in done:
                same = json.dumps(settings.to_json())
                if same not in made:
                    if isinstance(backbone, StableDiffusion):  # as it would be if it were loaded for each row
                        backbone.mixed = settings.dtype == "mixed"
                    start, start_cpu = time.perf_counter(), time.process_time()
                    frames = edit_frames(backbone, edit.source.frames, settings)
                    taken = time.perf_counter() - start, time.process_time() - start_cpu
                    made[same] = frames, *taken
                frames, seconds, cpu_seconds = made[same]
                frames = CONTROLS[control](edit, frames)
                strips[row] = frames
                item = {"key": key, "row": row, "clip": number, "change": edit.change, "seconds": seconds}
                item["cpu_seconds"] = cpu_seconds
                item |= measured(edit, frames, None, MEASURED)
                item |= changed_pixels(edit, frames)
                item["any_size_psnr"] = any_size_psnr(edit, frames)
                item["areas"] = areas(edit, frames)
                item["outlines"] = outlines(edit, frames)
                item["answer"] = measured(edit, edit.truth.frames, None, OF_TRUTH)
                done[key] = item
                with record.open("a") as log:
                    log.write(json.dumps(item) + "\n")
            items.append({**done[key], "row": row})
        if strips:
            name = f"clip-{number}-{backbone.fingerprint[:6]}" + ("" if len(strips) == len(rows) else "-more")
            strip(edit, strips, options.out / f"{name}.png")
        print(f"\r{count}/{len(numbers)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    show(rows, items)
    print(f"strips and items: {options.out}")


def show(rows: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    """Each row's clips, then means and medians; of multiples also the mean error over the answer's mean error."""
    table = Table("", *(title for title, _ in COLUMNS.values()), box=None)
    for row in rows:
        mine = [item for item in items if item["row"] == row]
        table.add_row(f"[bold]{row}[/]")
        for item in mine:
            changed = ", ".join(item["change"].values())
            table.add_row(f"{item['clip']} {changed}", *cells(shown(item)))
        for name, middle in (("mean", fmean), ("median", median)):
            table.add_row(f"[bold]{name}[/]", *cells(combined(mine, middle)))
        table.add_row("mean / mean", *cells({**dict.fromkeys(COLUMNS), **ratios(of_means(mine))}))
    Console(width=190).print(table)


def combined(
    items: Sequence[Mapping[str, Any]], middle: Callable[[list[float]], float]
) -> dict[str, float | None]:
    """Mean or median of every column, over the clips that have it."""
    found: dict[str, float | None] = {}
    for name in COLUMNS:
        values = [value for item in items if (value := shown(item)[name]) is not None]
        found[name] = middle(values) if values else None
    return found


def of_means(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An item with the mean warp errors of all that have both, edit's and answer's."""
    ours: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    for name in (f"{part}_warp_error" for part in WARPED):
        pairs = [(item[name], item["answer"][name]) for item in items]
        pairs = [(one, other) for one, other in pairs if one is not None and other is not None]
        ours[name] = fmean(one for one, _ in pairs) if pairs else None
        answers[name] = fmean(other for _, other in pairs) if pairs else None
    return {**ours, "answer": answers}


if __name__ == "__main__":
    main()
