"""Frames of images, of folders of them and of animations, as pixels."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.types import Pixels
from evenreel.video import animation, images
from evenreel.video.colour import composite
from evenreel.video.info import Leave, ReadSettings, VideoInfo
from evenreel.video.pictures import opened_picture
from evenreel.video.profiles import to_srgb


def still(info: VideoInfo, settings: ReadSettings, index: int) -> tuple[Pixels, Fraction, Fraction]:
    """Read image number `index`, upright RGB, (1, height, width, 3), with its start and end in seconds."""
    file = info.images[index]
    pixels = _read(file, settings)
    if pixels.shape[1:3] != (info.height, info.width):
        raise ClipError(
            f"{shown(file)} is now {pixels.shape[2]} x {pixels.shape[1]} pixels and was "
            f"{info.width} x {info.height}; leave the folder alone while it is read."
        )
    return pixels, index / settings.image_rate, (index + 1) / settings.image_rate


def _read(file: Path, settings: ReadSettings) -> Pixels:
    """One image, upright, as (1, height, width, 3); ClipError where it is damaged."""
    images.header(file, settings)  # the size is checked again: a file may change between a probe and a read
    with opened_picture(file) as image:
        return _as_pixels(image, settings)


def animated(
    info: VideoInfo, settings: ReadSettings, leave: Leave
) -> Iterator[tuple[Pixels, Fraction, Fraction]]:
    """Yield all frames, (1, height, width, 3), with their start and end in seconds.

    Raises ClipError where the file is damaged, or ends, unless that is allowed: the clip then ends there too.
    """
    start = Fraction(0)
    done = 0
    try:
        with opened_picture(info.path) as image:
            for number in animation.numbers(image):
                lasts = animation.lasts(image, number)
                pixels = _as_pixels(image, settings)
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


def _as_pixels(image: Image.Image, settings: ReadSettings) -> Pixels:
    """An open image, upright, in sRGB, on the background, as (1, height, width, 3)."""
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        # 16-bit grey: Pillow would clip it at 255 instead of scaling it
        grey = np.asarray(upright).astype(np.float64)
        levels = np.rint(grey.clip(0, 65535) / 257).astype(np.uint8)
        return torch.from_numpy(np.repeat(levels[..., None], 3, axis=-1))[None]
    if upright.has_transparency_data:
        rgba = to_srgb(upright.convert("RGBA"), profile)
        return composite(torch.from_numpy(np.array(rgba)), settings.background)[None]
    return torch.from_numpy(np.array(to_srgb(upright, profile).convert("RGB")))[None]
