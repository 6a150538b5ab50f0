"""Animated WebP and PNG pictures, read with Pillow."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.types import Pixels
from evenreel.video.info import Leave, ReadSettings, VideoInfo
from evenreel.video.pictures import as_pixels, opened_picture

CONTAINER = "animation"
SHORTEST = Fraction(1, 100)
"""Seconds up to which browsers take a duration for one that was left out, and show the frame for `USUAL`."""
USUAL = Fraction(1, 10)


def is_animated(file: Path) -> bool:
    """Whether an image file holds more than one picture. Raises ClipError."""
    with opened_picture(file) as image:
        return getattr(image, "n_frames", 1) - _stills(image) > 1


def probe(file: Path, size: tuple[int, int], settings: ReadSettings) -> VideoInfo:
    """Look at an animation whose frames, upright, have (width, height) `size`; the times of its frames are read."""
    with opened_picture(file) as image:
        lasting = [_lasts(image, number) for number in _numbers(image)]
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


def decode(
    info: VideoInfo, settings: ReadSettings, leave: Leave
) -> Iterator[tuple[Pixels, Fraction, Fraction]]:
    """All frames, (1, height, width, 3), with their start and end in seconds.

    Raises ClipError where the file is damaged, or ends, unless that is allowed: the clip then ends there too.
    """
    start = Fraction(0)
    done = 0
    try:
        with opened_picture(info.path) as image:
            for number in _numbers(image):
                lasts = _lasts(image, number)
                pixels = as_pixels(image, settings)
                if pixels.shape[1:3] != (info.height, info.width):
                    raise ClipError(f"{shown(info.path)} has changed; leave the file alone while it is read.")
                yield pixels, start, start + lasts
                start += lasts
                done += 1
    except ClipError as error:
        if done and leave.truncated:
            return
        raise ClipError(
            f"{shown(info.path)}: decoded {done} of {info.frame_count} frames; the file is damaged or cut short; "
            f"re-download it, or pass {argument('allow_truncated')} to use what is there."
        ) from error


def _stills(image: Image.Image) -> int:
    """Pictures before the animation: what readers without animations show of a PNG."""
    return int(bool(getattr(image, "default_image", False)))


def _numbers(image: Any) -> range:
    return range(_stills(image), image.n_frames)


def _lasts(image: Image.Image, number: int) -> Fraction:
    """Go to a frame; returns the seconds that it lasts."""
    image.seek(number)
    image.load()
    told = image.info.get("duration") or 0
    # PNG writes fractions of a second, which Pillow gives in milliseconds
    seconds = (Fraction(told) / 1000).limit_denominator(65535)
    return seconds if seconds > SHORTEST else USUAL
