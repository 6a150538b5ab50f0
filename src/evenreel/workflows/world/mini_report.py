"""What the mini model reached, beside what it must reach: measured on scenes it was never trained on."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median

import torch

from evenreel.backbones import Backbone, load_backbone, mini
from evenreel.errors import OutputError, argument
from evenreel.files import write_atomically
from evenreel.metrics.fidelity import psnr
from evenreel.metrics.judge import Judge
from evenreel.progress import Progress, silent, tracked
from evenreel.training.mini import clip
from evenreel.training.mini.pictures import CLIP_FRAMES, SIZE
from evenreel.types import Frames
from evenreel.workflows.world.drawings import contact_sheets, generation_figures
from evenreel.workflows.world.edits import WorldEdit, edit_frames, judged
from evenreel.workflows.world.model_card import Figure, share, write_card
from evenreel.world import ATTRIBUTES, HELD_OUT, Scene, caption, random_scene, render

CANDIDATES = 64
EDIT_HOSTS = ("frame", "vidtome")


def _scenes(first: int, count: int) -> list[Scene]:
    """Held-out scenes with one object, of which the judge can say what they show."""
    return [random_scene(HELD_OUT + first + i, objects=1) for i in range(count)]


def _pictures(scenes: Sequence[Scene]) -> Frames:
    frames = [
        render(scene, [(7 * i) % CLIP_FRAMES], SIZE, maps=False).frames for i, scene in enumerate(scenes)
    ]
    return torch.cat(frames)


def autoencoder_figures(backbone: Backbone, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """Yield how well pictures survive the way to latents and back (mean of each picture's PSNR)."""
    values = []
    for start in range(0, len(scenes), 32):
        pictures = _pictures(scenes[start : start + 32])
        decoded = backbone.decode(backbone.encode(pictures)).cpu()
        values += [psnr(one[None], other[None]) for one, other in zip(decoded, pictures, strict=True)]
    mean = sum(values) / len(values)
    yield Figure(part="VAE", name="reconstruction PSNR", value=mean, wanted=30, unit="dB", count=len(values))


def clip_figures(folder: Path, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """Yield how often CLIP finds a picture's caption among those of scenes that differ in one or more attributes."""
    model, tokenizer = clip.load(folder)
    hits = []
    for index, scene in enumerate(scenes):
        rng = random.Random(f"evenreel candidates {scene.seed}")
        others: dict[Scene, None] = {}
        while len(others) < CANDIDATES - 1:
            other = clip.near_miss(scene, rng)
            while rng.random() < 0.5:
                other = clip.near_miss(other, rng)
            if other != scene:
                others.setdefault(other)
        texts = [caption(candidate) for candidate in (scene, *others)]
        picture = render(scene, [(7 * index) % CLIP_FRAMES], SIZE, maps=False).frames
        hits.append(clip.similarities(model, tokenizer, picture, texts).argmax().item() == 0)
    yield share("CLIP", f"right caption among {CANDIDATES}", hits, 90)


def judge_figures(judge: Judge, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """Yield how often the judge names what was rendered."""
    verdicts = [
        v
        for start in range(0, len(scenes), 64)
        for v in judge.verdicts(_pictures(scenes[start : start + 64]))
    ]
    for name in ATTRIBUTES:
        hits = [
            verdict[name] == scene.attribute(name) for verdict, scene in zip(verdicts, scenes, strict=True)
        ]
        yield share("judge", name, hits, None if name == "texture" else 99)


def editing_figures(
    backbone: Backbone, judge: Judge, first: int, clips: int, host: str, progress: Progress = silent
) -> Iterator[Figure]:
    """Yield how often an edit shows what was asked for, and keeps what was not."""
    asked: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    kept: list[bool] = []
    truth_psnr: list[float] = []
    for number in tracked(range(first, first + clips), progress, f"edit with {host}"):
        edit = WorldEdit.held_out(number)
        edited = edit_frames(backbone, edit.source.frames, edit.settings(host=host))
        there, left = judged(edit, edited, judge)
        for name, hit in there.items():
            asked[name].append(hit)
        kept += left.values()
        truth_psnr.append(psnr(edited, edit.truth.frames))
    part = f"editing, {host}"
    yield share(part, "asked for is there", [hit for hits in asked.values() for hit in hits], 97)
    yield share(part, "not asked for is kept", kept, 98)
    for name, hits in asked.items():
        yield share(part, f"asked for: {name}", hits, None)
    for name, middle in (("mean", fmean), ("median", median)):
        value = middle(truth_psnr)
        yield Figure(
            part=part, name=f"truth PSNR, {name}", value=value, wanted=None, unit="dB", count=len(truth_psnr)
        )


def report(
    folder: Path,
    *,
    first: int = 0,
    pictures: int = 256,
    generated: int = 500,
    clips: int = 100,
    device: str = "cpu",
    write: bool = True,
    sheets: Path | None = None,
    progress: Progress = silent,
) -> list[Figure]:
    """Measure the model in `folder` on held-out scenes `first` and up; `write` puts report.json and README.md there.

    sheets: a folder for contact sheets of 64 drawings of each shape; None for none.
    Raises: OutputError when the folder of the model cannot be written, before anything is measured, or that of the
    sheets.
    """
    if write and not os.access(folder, os.W_OK):
        raise OutputError(
            f"{folder}: the report cannot be written there; copy the folder and name it with {argument('output')}."
        )
    # by its name, the packaged model comes with its guidance and its motion modules, as in `evenreel edit`
    name = "mini" if folder.resolve() == mini.FOLDER.resolve() else str(folder)
    backbone = load_backbone(name, device=device)
    judge = Judge.load(folder / "judge.safetensors")
    scenes = _scenes(first, pictures)
    progress("autoencoder, CLIP, judge", 0, None)
    figures = [
        *autoencoder_figures(backbone, scenes),
        *clip_figures(folder, scenes),
        *judge_figures(judge, _scenes(first, 4 * pictures)),
        *generation_figures(backbone, judge, _scenes(first, generated), progress),
    ]
    if sheets is not None:
        contact_sheets(backbone, sheets, first=first, progress=progress)
    for host in EDIT_HOSTS:
        figures += editing_figures(backbone, judge, first + 10_000, clips, host, progress)
    rows = [{**asdict(figure), "interval": figure.interval, "reached": figure.reached} for figure in figures]
    if not write:
        return figures
    record = {
        "held_out_from": first,
        "device": str(backbone.device),
        "torch": torch.__version__,
        "fingerprint": backbone.fingerprint,
        "figures": rows,
    }
    write_atomically(folder / "report.json", json.dumps(record, indent=2) + "\n")
    write_card(folder, figures, first=first)
    return figures
