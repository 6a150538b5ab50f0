"""The README of a mini model: what it is, how it was made, and what was measured beside what was wanted."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evenreel.files import write_atomically

_TEXT = """\
# evenreel mini

A small text-to-image diffusion model in the exact layout of Stable Diffusion 1.x (factor-8 autoencoder with 4
latent channels, CLIP text encoder, UNet with the same layer names and order, epsilon prediction, scaled-linear
schedule), trained from nothing on evenreel's procedural world of captioned clips. 128 x 128 pixels. It knows that
world and nothing else: it is there to see, test and measure the editing algorithms without a download.

Besides the parts of a diffusers folder there are `clip/` (the CLIP whose text tower conditions the UNet; its vision
tower gives 50 tokens of width 192) and `judge.safetensors` (an independent classifier of the world's attributes).
Weights are float16 safetensors. Licence: Apache-2.0, like the rest of evenreel; the training pictures are rendered
by evenreel itself.

## How it was made

`evenreel train mini --out runs/mini` (resumable; every batch follows from its step number and the seed):

{training}

## What it reaches

Measured by `evenreel train mini --report --out FOLDER` on scenes with one object whose seeds were never trained on
(held-out scenes {first} and up; `--first-seed N` measures on others and prints only).
Intervals are 95% (Wilson). `editing` changes one attribute of an {frames}-frame clip with the default settings of
`evenreel edit`; the judge's verdict on most frames counts.

{table}
{missed}"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure."""

    part: str
    name: str
    value: float
    wanted: float | None
    """What it should be at least; None where nothing was asked for."""
    unit: str = "%"
    count: int
    """Samples that it was measured on."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of a percentage (Wilson)."""
        if self.unit != "%":
            return None
        share, z, n = self.value / 100, 1.96, self.count
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)

    @property
    def reached(self) -> bool:
        """Whether it is what was wanted."""
        return self.wanted is None or self.value >= self.wanted


def share(part: str, name: str, hits: Sequence[bool], wanted: float | None) -> Figure:
    """Return how often something was so, in percent."""
    return Figure(part=part, name=name, value=100 * sum(hits) / len(hits), wanted=wanted, count=len(hits))


def write_card(folder: Path, figures: Sequence[Figure], *, first: int = 0, frames: int = 8) -> None:
    """Write README.md into a model's folder."""
    lines = [
        "| part | figure | wanted | measured | 95% interval | samples |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        wanted = "" if figure.wanted is None else f">= {figure.wanted:g} {figure.unit}"
        interval = "" if figure.interval is None else f"{figure.interval[0]:.1f} to {figure.interval[1]:.1f}"
        measured = f"{figure.value:.1f} {figure.unit}" + ("" if figure.reached else " (not reached)")
        lines.append(
            f"| {figure.part} | {figure.name} | {wanted} | {measured} | {interval} | {figure.count} |"
        )
    missed = [f"{figure.part}: {figure.name}" for figure in figures if not figure.reached]
    text = _TEXT.format(
        training=_training_table(folder),
        frames=frames,
        first=first,
        table="\n".join(lines),
        missed=f"\nNot reached: {'; '.join(missed)}.\n" if missed else "",
    )
    write_atomically(folder / "README.md", text)


def _training_table(folder: Path) -> str:
    made = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    lines = ["| part | steps | learning rate | seed | minutes |", "|---|---|---|---|---|"]
    for part, settings in made["parts"].items():
        row = (
            part,
            settings["steps"],
            settings["learning_rate"],
            settings["seed"],
            round(settings["seconds"] / 60),
        )
        lines.append("| " + " | ".join(map(str, row)) + " |")
    stretched = [
        f"{part}: at step {step} given {steps} in all"
        for part, settings in made["parts"].items()
        for step, steps in settings.get("stretched", ())
    ]
    note = (
        f"\n\nMade longer while they ran (the rate follows the new length): {'; '.join(stretched)}."
        if stretched
        else ""
    )
    return "\n".join(lines) + note + f"\n\nPool of {made['pool']} rendered pictures; torch {made['torch']}."
