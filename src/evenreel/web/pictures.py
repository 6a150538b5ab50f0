"""Pictures and figures of an edit that is done, made once and kept beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evenreel.files import write_atomically
from evenreel.jobs.job import Job
from evenreel.metrics.fidelity import psnr
from evenreel.settings import EditSettings
from evenreel.video import load
from evenreel.video.strip import film_strip

MOST_FRAMES = 64
"""Frames that pictures and figures are made from."""


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
    made = Pictures(before, after, strip, ())
    kept = output.with_name(f"{output.stem}-figures.json")
    if not kept.is_file() or kept.stat().st_mtime < output.stat().st_mtime:
        start = EditSettings.from_json(job.state.task.settings).frames[0]
        edit = load(output, 0, None).frames[:MOST_FRAMES]
        source = load(Path(job.state.task.source), start, start + len(edit)).frames
        middle = len(edit) // 2
        for path, frames in ((made.before, source), (made.after, edit)):
            picture = Image.fromarray(frames[middle].numpy())
            write_atomically(path, lambda aside, picture=picture: picture.save(aside))
        film_strip([source, edit], ["source", "edit"], made.strip)
        near = float(psnr(source.movedim(-1, 1) / 255, edit.movedim(-1, 1) / 255))
        figures = {
            "seconds": f"{sum(job.state.seconds.values()):.1f}",
            "frames shown here": str(len(edit)),
            "likeness to the source (PSNR)": f"{near:.1f} dB",
        }
        write_atomically(kept, json.dumps(figures))
    figures = json.loads(kept.read_text())
    return Pictures(made.before, made.after, made.strip, tuple(figures.items()))
