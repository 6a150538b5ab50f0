"""Single images and folders of them, looked at with Pillow."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video import animation
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.pictures import opened_picture
from evenreel.video.source import reason_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
ANIMATED = frozenset({".png", ".webp"})
"""Those whose files may be animations."""
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before any pixel is decoded."""

    width: int
    height: int
    mode: str
    format: str


def probe(path: Path, settings: ReadSettings) -> VideoInfo:
    """Look at an image, or at all of a folder; ClipError for none, unreadable ones and mixed sizes."""
    files = (path,) if path.is_file() else listed(path)
    first = header(files[0], settings)
    if path.is_file() and animation.is_animated(path):
        return animation.probe(path, (first.width, first.height), settings)
    if path.is_dir():
        _refuse_animations(files)
    for file in files[1:]:
        other = header(file, settings)
        if (other.width, other.height) != (first.width, first.height):
            raise ClipError(
                f"{shown(file)} is {other.width} x {other.height} pixels and {shown(files[0].name)} is "
                f"{first.width} x {first.height}; make all images of the folder one size."
            )
    return VideoInfo(
        path=path,
        width=first.width,
        height=first.height,
        frame_count=len(files),
        average_rate=settings.image_rate,
        duration=len(files) / settings.image_rate,
        time_base=1 / settings.image_rate,
        container="images",
        codec=first.format.lower(),
        pixel_format=first.mode.lower(),
        has_alpha=first.mode in ("RGBA", "LA", "PA"),
        images=files,
    )


def _refuse_animations(files: Sequence[Path]) -> None:
    """Raise ClipError for an animation among images, of which one picture alone would be shown."""
    for file in files:
        if file.suffix.lower() in ANIMATED and animation.is_animated(file):
            raise ClipError(
                f"{shown(file)} is an animation, and each file of a folder is one picture; give it by itself, or take "
                "it out of the folder."
            )


def listed(folder: Path) -> tuple[Path, ...]:
    """Return the visible images of a folder, with numbers in names counted: frame2 comes before frame10."""
    try:
        files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        files = [f for f in files if f.is_file()]
    except OSError as error:
        raise ClipError(
            f"{shown(folder)} cannot be listed ({reason_of(error)}); check its permissions."
        ) from error
    if not files:
        raise ClipError(
            f"{shown(folder)} holds no images; give a folder of {', '.join(sorted(SUFFIXES))} files."
        )
    return tuple(sorted(files, key=natural_key))


def natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return what sorts runs of digits by value; the name itself settles ties such as 1 and 01.

    A hyphen is a sign where a number begins a name or a word: -2 comes before -1, and frame-1 before frame-2.
    """
    parts = re.findall(r"(?:(?<![^_ .(])-)?[0-9]+|-|[^0-9-]+", os.fspath(file.name))
    return [(0, int(p), "") if p[-1] in "0123456789" else (1, 0, p.lower()) for p in parts], file.name


def header(file: Path, settings: ReadSettings) -> Header:
    """Read the size as displayed, from the header alone; ClipError where it is too large or not an image."""
    with opened_picture(file) as image:
        width, height = image.size
        if width * height > settings.max_pixels:
            raise ClipError(
                f"{shown(file)} is {width} x {height} pixels and at most {settings.max_pixels} pixels "
                "are read; scale it down first."
            )
        if image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        return Header(width, height, image.mode, image.format or "")
