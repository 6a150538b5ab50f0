"""Pictures and figures of an edit that is done, made once and kept beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from evenreel.files import write_atomically
from evenreel.jobs.job import Job
from evenreel.metrics.base import find, measure
from evenreel.metrics.window import Inputs, Part, windows
from evenreel.settings import EditSettings
from evenreel.types import Frames, Pixels
from evenreel.video import open_clip
from evenreel.video.strip import film_strip
from evenreel.workflows.editing.records.record import read_record, record_path

COLUMNS = 8
"""Frames of a strip, spread over the clip."""
MOST_FRAMES, WINDOW = 64, 2
"""Frames that figures are made from, the first ones of a clip; and how many are in memory together."""
FIGURES = ("source_psnr", "source_ssim")


@dataclass(frozen=True)
class Pictures:
    """What the page shows of an edit."""

    before: Path
    after: Path
    strip: Path
    figures: tuple[tuple[str, str], ...]


def pictures_of(job: Job) -> Pictures:
    """Return what there is, made where it is not newer than the edit. Raises: ClipError, OutputError."""
    output = Path(job.state.task.output)
    before, after, strip = (
        output.with_name(f"{output.stem}-{name}.png") for name in ("before", "after", "strip")
    )
    kept = output.with_name(f"{output.stem}-figures.json")
    if not kept.is_file() or kept.stat().st_mtime < output.stat().st_mtime:
        start = EditSettings.from_json(job.state.task.settings).frames[0]
        count = int(read_record(record_path(output))["frames"]["written"])
        numbers = sorted({round(column * (count - 1) / (COLUMNS - 1)) for column in range(COLUMNS)})
        source, edit = (
            torch.cat([pixels for _, pixels in open_clip(path).pick([first + number for number in numbers])])
            for path, first in ((job.state.task.source, start), (output, 0))
        )
        middle = len(numbers) // 2
        for path, frames in ((before, source), (after, edit)):
            picture = Image.fromarray(frames[middle].numpy())
            write_atomically(path, lambda aside, picture=picture: picture.save(aside))
        film_strip([source, edit], ["source", "edit"], strip, columns=len(numbers))
        figures = {"seconds": f"{sum(job.state.seconds.values()):.1f}", "frames": str(count)}
        compared = min(count, MOST_FRAMES)
        for name, value in _measured(Path(job.state.task.source), start, output, compared).items():
            figures[name if compared == count else f"{name}, first {compared} frames"] = value
        write_atomically(kept, json.dumps(figures))
    figures = json.loads(kept.read_text())
    return Pictures(before, after, strip, tuple(figures.items()))


def _measured(source: Path, start: int, edit: Path, count: int) -> dict[str, str]:
    """Figures of `evenreel evaluate` that need no models, of the first frames."""
    parts = (
        Part(_frames(one), _frames(other))
        for (one, _), (other, _) in zip(
            open_clip(source, start, start + count, window=WINDOW),
            open_clip(edit, 0, count, window=WINDOW),
            strict=True,
        )
    )
    kinds = {name: find(name) for name in FIGURES}
    found = measure(windows(parts, Inputs()), kinds, Inputs())
    return {
        kinds[name].label or name: f"{figure.value:.3g} {kinds[name].unit}".strip()
        for name, figure in found.items()
        if figure.value is not None
    }


def _frames(pixels: Pixels) -> Frames:
    return pixels.movedim(-1, 1).float() / 255
