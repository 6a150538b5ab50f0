"""Animated WebP and PNG pictures, looked at with Pillow."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.pictures import opened_picture

CONTAINER = "animation"
SHORTEST = Fraction(1, 100)
"""Seconds up to which browsers take a duration for one that was left out, and show the frame for `USUAL`."""
USUAL = Fraction(1, 10)


def is_animated(file: Path) -> bool:
    """Return whether an image file holds more than one picture. Raises ClipError."""
    with opened_picture(file) as image:
        return getattr(image, "n_frames", 1) - _stills(image) > 1


def probe(file: Path, size: tuple[int, int], settings: ReadSettings) -> VideoInfo:
    """Look at an animation whose frames, upright, have (width, height) `size`; the times of its frames are read."""
    with opened_picture(file) as image:
        lasting = [lasts(image, number) for number in numbers(image)]
        mode, kind, loop = image.mode, (image.format or "").lower(), image.info.get("loop", 0)
    return VideoInfo(
        path=file,
        width=size[0],
        height=size[1],
        frame_count=len(lasting),
        average_rate=len(lasting) / sum(lasting, Fraction(0)),
        duration=sum(lasting, Fraction(0)),
        time_base=Fraction(1, 1000),
        container=CONTAINER,
        codec=kind,
        pixel_format=mode.lower(),
        has_alpha=mode in ("RGBA", "LA", "PA"),
        loop=loop - 1 if loop > 1 else {0: 0, 1: -1}[max(0, loop)],
    )


def _stills(image: Image.Image) -> int:
    """Pictures before the animation: what readers without animations show of a PNG."""
    return int(bool(getattr(image, "default_image", False)))


def numbers(image: Any) -> range:
    """Return the pictures that are frames of the animation."""
    return range(_stills(image), image.n_frames)


def lasts(image: Image.Image, number: int) -> Fraction:
    """Go to a frame; returns the seconds that it lasts."""
    image.seek(number)
    image.load()
    told = image.info.get("duration") or 0
    # PNG writes fractions of a second, which Pillow gives in milliseconds
    seconds = (Fraction(told) / 1000).limit_denominator(65535)
    return seconds if seconds > SHORTEST else USUAL
