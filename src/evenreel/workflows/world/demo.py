"""The demo: a clip of the world with sound, edited as any clip is, and measured against the exact answer."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from evenreel import world
from evenreel.backbones import mini
from evenreel.files import make_folder
from evenreel.metrics.fidelity import psnr
from evenreel.metrics.judge import Judge
from evenreel.metrics.outline import outline_iou
from evenreel.metrics.segmenter import packaged_segmenter
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.types import Frames
from evenreel.video import VideoWriter, from_model, load, to_model
from evenreel.video.soundtrack import Samples, add_sound
from evenreel.video.strip import film_strip
from evenreel.workflows.editing.edit import EditResult, edit_file

SIZE = 128
RATE = 8
"""Frames a second."""
SAMPLE_RATE = 44_100
NOTES = (60, 64, 67, 72, 67, 64)
"""A broken C major chord, up and down, as MIDI numbers."""
NOTE_SECONDS = 0.25
SCENE = world.Scene(
    background="grass",
    objects=(
        world.SceneObject(
            shape="circle",
            colour="red",
            radius=0.55,
            motion=world.Motion(kind="rolling", start=(-0.2, 0.1), velocity=(0.025, 0.0), spin=0.045),
        ),
    ),
    seed=7,
)
CHANGES = {"shape": "star", "colour": "blue", "background": "snow"}


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, for people."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    source_prompt: str
    prompt: str
    source: Path
    edit: Path
    strip: Path
    figures: tuple[Figure, ...]


def run_demo(
    out: str | os.PathLike[str],
    *,
    host: str = "auto",
    frames: int = 16,
    steps: int | None = None,
    seed: int = 0,
    model: str = "mini",
    progress: Progress = silent,
) -> DemoResult:
    """Render, edit, measure, and draw a film strip, into the folder `out` (made if need be).

    Raises any EvenreelError.
    """
    folder = Path(out)
    make_folder(folder)
    source, edited, strip = folder / "source.mp4", folder / "edit.mp4", folder / "strip.png"
    answer = SCENE.edited(**CHANGES)
    progress("render the source", 0, 1)
    before = world.render(SCENE, range(frames), SIZE)
    truth = world.render(answer, range(frames), SIZE)
    write_source(source, before.frames)
    progress("render the source", 1, 1)
    settings = EditSettings(
        prompt=world.caption(answer),
        source_prompt=world.caption(SCENE),
        host=host,
        steps=steps,
        seed=seed,
        model=model,
    )
    result = edit_file(source, edited, settings, progress=progress)
    progress("measure", 0, 1)
    edit_frames = to_model(load(edited).frames, (SIZE, SIZE))
    elsewhere = 1 - torch.maximum(before.masks, truth.masks).amax(dim=1, keepdim=True)
    figures = _figures(result, before.frames, edit_frames, truth.frames, elsewhere)
    rows = [from_model(clip, (SIZE, SIZE)) for clip in (before.frames, edit_frames, truth.frames)]
    labels = [f"source: {settings.source_prompt}", f"edit: {settings.prompt}", "exact answer"]
    film_strip(rows, labels, strip)
    progress("measure", 1, 1)
    return DemoResult(settings.source_prompt, settings.prompt, source, edited, strip, figures)


def write_source(path: Path, frames: Frames) -> None:
    """Write rendered frames as a clip with a soft melody."""
    with VideoWriter(path, frames.shape[3], frames.shape[2], rate=Fraction(RATE)) as writer:
        writer.write(from_model(frames, (frames.shape[3], frames.shape[2])))
    add_sound(path, melody(len(frames) / RATE), SAMPLE_RATE)


def melody(seconds: float) -> Samples:
    """Return a soft tune: sines with an octave above them, each note fading in and out."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    which, within = np.divmod(time, NOTE_SECONDS)
    pitch = 440.0 * 2.0 ** ((np.take(NOTES, which.astype(int) % len(NOTES)) - 69) / 12)
    loudness = 0.15 * np.sin(np.pi * within / NOTE_SECONDS) ** 0.5 * np.exp(-2 * within / NOTE_SECONDS)
    phase = 2 * np.pi * pitch * time
    return (loudness * (np.sin(phase) + 0.3 * np.sin(2 * phase))).astype(np.float32)


def _figures(
    result: EditResult, source: Frames, edit: Frames, truth: Frames, elsewhere: torch.Tensor
) -> tuple[Figure, ...]:
    record = result.record
    peak = record["peak_memory"]["process_bytes"]
    figures = [
        Figure("PSNR of the edit", f"{psnr(edit, truth):.1f} dB", "against the exact answer; more is better"),
        Figure("PSNR of the source", f"{psnr(source, truth):.1f} dB", "where the edit started from"),
        Figure(
            "PSNR off the object",
            f"{psnr(edit, truth, elsewhere):.1f} dB",
            "against the exact answer's background",
        ),
        Figure(
            "outline of the worst frame",
            f"{100 * _outlines(edit).min():.0f}%",
            "covered by a true star's, placed as fits best (IoU); 95 is a clean one",
        ),
        *_verdicts(edit),
    ]
    figures += [Figure(stage, f"{seconds:.1f} s", "") for stage, seconds in record["seconds"].items()]
    if peak is not None:
        figures.append(Figure("peak memory", f"{peak / 2**30:.2f} GiB", "of the whole process"))
    return tuple(figures)


def _outlines(edit: Frames) -> torch.Tensor:
    return outline_iou(packaged_segmenter().masks(edit), CHANGES["shape"])


def _verdicts(edit: Frames) -> list[Figure]:
    weights = mini.FOLDER / "judge.safetensors"
    if not weights.exists():
        return []
    seen = Judge.load(weights).verdict(edit)
    wanted = SCENE.edited(**CHANGES).attributes()
    return [
        Figure(
            f"judge: {name}",
            seen[name] if seen[name] == wanted[name] else f"{seen[name]} (not {wanted[name]})",
            "asked for" if name in CHANGES else "to be kept",
        )
        for name in wanted
    ]
