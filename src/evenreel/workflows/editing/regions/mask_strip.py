"""A film strip of what is edited of a clip and what stays."""

from pathlib import Path

import torch

from evenreel.ops.regions import feathered
from evenreel.video import FrameStream, film_strip
from evenreel.workflows.editing.regions.region import Region, feather_of, mixed

COLUMNS = 8
"""Frames of a strip."""
DIMMED = 0.2
"""Brightness of what stays, in a strip."""


def strip_path(output: Path) -> Path:
    """Return where the strip of a result lies."""
    return output.with_name(f"{output.stem}-mask-strip.png")


def save_strip(region: Region, stream: FrameStream, output: Path) -> Path:
    """Save a film strip beside a result: some frames of the source, and these with all dimmed that stays."""
    count = len(region.cells)
    numbers = sorted({round(step * (count - 1) / (COLUMNS - 1)) for step in range(COLUMNS)})
    size = stream.info.width, stream.info.height
    source = torch.cat([pixels for _, pixels in stream.pick([stream.start + number for number in numbers])])
    every = (part for window in region.parts(size, stream.window) for part in window.split(1))
    parts = torch.cat([part for number, part in enumerate(every) if number in numbers])
    weights = feathered(parts, feather_of(*size))
    dimmed = mixed(source, (source * DIMMED).to(torch.uint8), weights)
    return film_strip(
        [source, dimmed], ["source", "edited where it is bright"], strip_path(output), columns=COLUMNS
    )
