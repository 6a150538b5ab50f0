"""How well clips survive inversion and sampling with their own prompt, and how many noise predictions that takes.

    python benchmarks/reconstruction.py                          # all rows, 3 held-out clips of 4 frames: half an hour
    python benchmarks/reconstruction.py --rows fixed --clips 1   # rows whose name contains a word

PSNR against the frames is bounded by the autoencoder; PSNR against what the autoencoder makes of the frames is the
inversion's own error. Finished items are kept in --out and not computed again.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenreel.backbones import load_backbone
from evenreel.workflows.world.reconstruction import reconstruct
from evenreel.world import HELD_OUT, caption, random_scene, render

FIRST = 41_000
"""Held-out clips from here on: not those that anything was chosen on."""


def ddim(inversion_steps: int, steps: int) -> dict[str, Any]:
    """Plain inversion; as published where both numbers are 500, and where an edit of 50 steps follows."""
    return {"inversion": "ddim", "inversion_steps": inversion_steps, "steps": steps}


def fixed_point(steps: int, **options: float) -> dict[str, Any]:
    """Corrected steps."""
    return {"inversion": "fixed-point", "steps": steps, "inversion_options": options}


def always(steps: int, predictions: int) -> dict[str, Any]:
    """The same number of corrections at each step, needed or not."""
    return fixed_point(steps, budget=predictions, iterations=predictions, tolerance=0.0)


def ddpm(steps: int, guidance_scale: float = 1.0, skip: float = 0.36) -> dict[str, Any]:
    """Recorded noise, found with the guidance of the sampling."""
    return {
        "inversion": "ddpm",
        "steps": steps,
        "guidance_scale": guidance_scale,
        "inversion_options": {"guidance_scale": guidance_scale, "skip": skip},
    }


def null_text(steps: int, guidance_scale: float = 7.5, **options: float) -> dict[str, Any]:
    """Embeddings found under guidance."""
    return {
        "inversion": "null-text",
        "steps": steps,
        "guidance_scale": guidance_scale,
        "inversion_options": options,
    }


ROWS: dict[str, dict[str, Any]] = {
    "ddim 10, 10": ddim(10, 10),
    "ddim 25, 25": ddim(25, 25),
    "ddim 50, 25": ddim(50, 25),
    "ddim 50, 50": ddim(50, 50),
    "ddim 100, 100": ddim(100, 100),
    "ddim 250, 50": ddim(250, 50),
    "ddim 500, 25": ddim(500, 25),
    "ddim 500, 50": ddim(500, 50),
    "ddim 500, 500": ddim(500, 500),
    "fixed-point 10 x 2": always(10, 2),
    "fixed-point 10 x 5": always(10, 5),
    "fixed-point 16 x 3": always(16, 3),
    "fixed-point 25 x 1": always(25, 1),
    "fixed-point 25 x 2": always(25, 2),
    "fixed-point 50 x 1": always(50, 1),
    "fixed-point 10, budget 5": fixed_point(10, budget=5.0),
    "fixed-point 25, budget 2 (default)": fixed_point(25),
    "fixed-point 50, budget 2": fixed_point(50),
    "ddpm 25": ddpm(25),
    "ddpm 50": ddpm(50),
    "guidance 7.5: ddim 25, 25": {**ddim(25, 25), "guidance_scale": 7.5},
    "guidance 7.5: fixed-point 25": {**fixed_point(25), "guidance_scale": 7.5},
    "guidance 7.5: ddpm 25": ddpm(25, 7.5),
    "guidance 7.5: ddpm 25, found at 1": {
        **ddpm(25, 7.5),
        "inversion_options": {"guidance_scale": 1.0},
    },
    "guidance 7.5: null-text 10": null_text(10),
    "guidance 7.5: null-text 25": null_text(25),
}
"""Noising steps and sampling steps, or sampling steps x predictions for each. Without guidance unless it says so."""
FIGURES = ("predictions", "psnr", "psnr_to_autoencoder", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=Path("runs/reconstruction.jsonl"))
    options = parser.parse_args()
    rows = {name: settings for name, settings in ROWS.items() if options.rows in name}

    backbone = load_backbone(options.model)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {item["key"]: item for item in map(json.loads, lines)}
    found_of: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    with options.out.open("a") as log:
        for number in range(FIRST, FIRST + options.clips):
            scene = random_scene(HELD_OUT + number, objects=1)
            frames = render(scene, range(options.frames), backbone.native_size, maps=False).frames
            for name, settings in rows.items():
                key = json.dumps([number, options.frames, backbone.fingerprint, settings], sort_keys=True)
                if key not in done:
                    found = asdict(reconstruct(backbone, frames, caption(scene), **settings))
                    done[key] = {"key": key, "row": name, **{figure: found[figure] for figure in FIGURES}}
                    log.write(json.dumps(done[key]) + "\n")
                    log.flush()
                found_of[name].append(done[key])
    print("| inversion | predictions | dB, frames | dB, autoencoder | worst | seconds |")
    print("|---|---|---|---|---|---|")
    for name, mine in found_of.items():
        means = {figure: sum(item[figure] for item in mine) / len(mine) for figure in FIGURES}
        worst = min(item["psnr_to_autoencoder"] for item in mine)
        print(
            f"| {name} | {means['predictions']:.0f} | {means['psnr']:.2f} | {means['psnr_to_autoencoder']:.1f} | "
            f"{worst:.1f} | {means['seconds']:.1f} |"
        )


if __name__ == "__main__":
    main()
