"""What the prompts say of where an edit is needed, against the exact region of change.

    python benchmarks/regions.py --clips 60                    # figures with the thresholds in use, by kind of change
    python benchmarks/regions.py --clips 60 --learn            # and the thresholds beside what these clips have

Clips are rendered from 60000 on, those that defaults are chosen on. A place changes where the right answer differs from
the source by more than 8 levels of 255 in a colour. Differences are kept in --out, so that a run that was cut goes on;
for other weights they are found anew. With --learn, clips of which a part changes and clips of which all does are told
apart by what SPILL and ALL (evenreel.workflows.editing.computing.differences) must lie between, and SMALLEST is the
largest that loses no more than --lost of the changed pixels of any clip. The agreement of the cells that change tells
another shape, alone, from other changes (LITTLE, in evenreel.workflows.editing.computing.keeping); --card changes one
attribute of each clip, as the model card does.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenreel.backbones import load_backbone
from evenreel.ops.regions import pixels_of
from evenreel.workflows.editing.computing import differences, keeping
from evenreel.workflows.world.edits import WorldEdit, edit_pipeline

FIRST = 60_000
LEVELS = 8 / 255


@dataclass(frozen=True)
class Compared:
    """A clip, and what the model sees of its change."""

    number: int
    change: dict[str, str]
    difference: Tensor
    agreement: float
    """How alike the cells change that change most."""
    alone: tuple[Tensor, ...]
    """Differences of each change by itself, where the whole is doubtful."""
    changed: Tensor
    """The pixels that the right answer changes: frames, height, width."""

    @property
    def kind(self) -> str:
        """The attribute that changes, or how many do; `all` where background or style are among several."""
        names = sorted(self.change)
        if len(names) == 1:
            return names[0]
        return "several, of all" if {"background", "style"} & set(names) else "several, of the object"

    @property
    def near(self) -> Tensor:
        """Differences averaged over neighbours, as they are judged."""
        return differences.averaged(self.difference)

    @property
    def calm(self) -> float:
        """The difference that says whether everything is meant."""
        return differences.calmest(self.near)

    @property
    def busy(self) -> float:
        """The difference beside which the calm one is seen."""
        return differences.busiest(self.near)

    @property
    def beyond(self) -> float:
        """What the calmest cells differ by beyond a share of the busiest, at most: of the whole change, or of one."""
        every = (differences.averaged(one) for one in (self.difference, *self.alone))
        return max(differences.calmest(one) - differences.SPILL * differences.busiest(one) for one in every)

    def cells(self, smallest: float = differences.SMALLEST) -> Tensor | None:
        """The cells that are edited; None is everywhere."""
        return None if self.beyond > differences.ALL else differences.concerned(self.difference, smallest)

    @property
    def is_local(self) -> bool:
        """Whether a part changes by what was asked for."""
        return not {"background", "style"} & set(self.change)

    def figures(self, cells: Tensor | None) -> dict[str, float]:
        """Recall, precision and the share kept; None is everywhere."""
        if cells is None:
            cells = torch.ones_like(self.difference, dtype=torch.bool)
        part = pixels_of(cells, (self.changed.shape[1], self.changed.shape[2]))
        both = float((part & self.changed).sum())
        return {
            "recall": both / max(1.0, float(self.changed.sum())),
            "precision": both / max(1.0, float(part.sum())),
            "kept": 1 - float(part.float().mean()),
        }


def compared(number: int, options: argparse.Namespace, backbone) -> Compared:
    """The differences of one clip, found or read."""
    if options.card:
        edit = WorldEdit.held_out(number, options.frames)
    else:
        edit = WorldEdit.drawn(number, options.frames, options.most)
    most = "card" if options.card else options.most
    name = f"{number}-{options.frames}-{most}-{options.motion}-{backbone.fingerprint[:12]}"
    path = options.out / f"{name}-{'-'.join(map(str, keeping.TIMESTEPS))}-agreement.safetensors"
    settings = edit.settings(motion=options.motion)
    if not path.is_file():
        pipeline = edit_pipeline(backbone, settings)
        latents = backbone.encode(edit.source.frames)
        difference, agreement = keeping.prompt_difference(pipeline, latents, settings.prompt)
        found = {"difference": difference, "agreement": torch.tensor(agreement)}
        if differences.concerned(difference) is not None and differences.is_doubtful(difference):
            alone = keeping.each_alone(pipeline, latents)
            found |= {f"alone {index}": one.difference for index, one in enumerate(alone)}
        save_file(found, path)
    found = load_file(path)
    changed = (edit.truth.frames - edit.source.frames).abs().amax(1) > LEVELS
    difference, agreement = found.pop("difference"), float(found.pop("agreement"))
    return Compared(number, edit.change, difference, agreement, tuple(found.values()), changed)


def learnt(clips: Sequence[Compared], lost: float) -> float:
    """SMALLEST as these clips would have it; the limits of what is everywhere are shown, with what they lie between."""
    local, every = [c for c in clips if c.is_local], [c for c in clips if not c.is_local]
    part, whole = ([c.beyond for c in some] for some in (local, every))
    print(
        f"ALL {differences.ALL}: beyond a share of {differences.SPILL} of the busiest, the calmest fifth differs by at "
        f"most {max(part):.4f} where a part changes, and by at least {min(whole):.4f} where all does"
    )
    smallest = 0.0
    for step in range(2, 40):
        value = step / 200
        recalls = [c.figures(c.cells(value))["recall"] for c in local]
        if min(recalls) < 1 - lost:
            break
        smallest = value
    return smallest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--most", type=int, default=2, help="attributes changed at most")
    parser.add_argument("--card", action="store_true", help="change one attribute, shape to style in turn")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--motion", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--lost", type=float, default=0.02)
    parser.add_argument("--out", type=Path, default=Path("runs/regions"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.model, device=options.device)
    clips = []
    for number in range(options.first, options.first + options.clips):
        clips.append(compared(number, options, backbone))
        print(f"\r{len(clips)}/{options.clips}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    show(clips, differences.SMALLEST)
    if options.learn:
        smallest = learnt(clips, options.lost)
        print(f"SMALLEST {smallest:.3f}")
        show(clips, smallest)


def show(clips: Sequence[Compared], smallest: float) -> None:
    """Mean figures by kind of change, and the lines that they are made from."""
    table = Table("change", "clips", "recall %", "least", "precision %", "kept %", box=None)
    found = {c.number: c.figures(c.cells(smallest)) for c in clips}
    for kind in sorted({c.kind for c in clips}):
        some = [found[c.number] for c in clips if c.kind == kind]
        least = min(one["recall"] for one in some)
        cells = [100 * fmean(one[name] for one in some) for name in ("recall", "precision", "kept")]
        table.add_row(
            kind,
            str(len(some)),
            f"{cells[0]:.1f}",
            f"{100 * least:.1f}",
            *(f"{cell:.0f}" for cell in cells[1:]),
        )
    Console(width=120).print(f"place: {smallest:.3f}", table)
    for c in clips:
        seen = {"calm": round(c.calm, 4), "busy": round(c.busy, 4), "beyond": round(c.beyond, 4)}
        seen["agreement"] = round(c.agreement, 4)
        print(json.dumps({"clip": c.number, "change": c.change, **seen, **found[c.number]}))


if __name__ == "__main__":
    main()
