"""Film strips for people to look at: a labelled grid of frames, one row a clip."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from evenreel.errors import OutputError, SettingsError
from evenreel.files import write_atomically

MARGIN = 6
"""Pixels between pictures."""
INK, PAPER = (24, 24, 24), (255, 255, 255)


def film_strip(
    rows: Sequence[UInt8[Tensor, "_ _ _ 3"]],  # rows may differ in length and size
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
    height: int = 128,
) -> Path:
    """Save a `sheet` as a PNG and return its path. Raises: OutputError where it cannot be written; SettingsError."""
    return _save(sheet(rows, labels, columns=columns, height=height), Path(path))


def sheet(
    rows: Sequence[UInt8[Tensor, "_ _ _ 3"]],
    labels: Sequence[str],
    *,
    columns: int = 8,
    height: int = 128,
) -> Image.Image:
    """Draw one labelled row for each clip: `columns` frames spread evenly from first to last.

    Rows may differ in size and length; each picture is scaled to `height` pixels. Raises: SettingsError for rows that
    do not match their labels.
    """
    if len(rows) != len(labels) or not rows:
        raise SettingsError(
            f"a film strip needs a label for each row, got {len(rows)} rows and {len(labels)} labels."
        )
    if columns < 1 or height < 1:
        raise SettingsError(f"columns and height must be at least 1, got {columns} and {height}.")
    font = ImageFont.load_default(size=max(10, min(20, height // 8)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # what it is whenever a size is given
    text_height = sum(font.getmetrics()) + MARGIN
    pictures = [[_scaled(row[i], height) for i in _spread(len(row), columns)] for row in rows]
    width = max(sum(p.width + MARGIN for p in row) for row in pictures) + MARGIN
    widest_label = max(int(font.getlength(_one_line(label))) for label in labels) + 2 * MARGIN
    drawn = Image.new(
        "RGB", (max(width, widest_label), len(rows) * (text_height + height + MARGIN) + MARGIN), PAPER
    )
    draw = ImageDraw.Draw(drawn)
    top = MARGIN
    for row, label in zip(pictures, labels, strict=True):
        draw.text((MARGIN, top), _one_line(label), fill=INK, font=font)
        left = MARGIN
        for picture in row:
            drawn.paste(picture, (left, top + text_height))
            left += picture.width + MARGIN
        top += text_height + height + MARGIN
    return drawn


def _spread(count: int, columns: int) -> list[int]:
    """Up to `columns` frame numbers, evenly from the first to the last."""
    if count <= columns:
        return list(range(count))
    if columns == 1:
        return [0]
    return [round(i * (count - 1) / (columns - 1)) for i in range(columns)]


def _scaled(frame: Tensor, height: int) -> Image.Image:
    picture = Image.fromarray(frame.cpu().numpy())
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _save(sheet: Image.Image, path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path} is not the name of a PNG; end it in .png.")
    write_atomically(path, lambda aside: sheet.save(aside, format="PNG"))
    return path
