"""Frames of images, of folders of them and of animations, as pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.types import Pixels
from evenreel.video import animation, images
from evenreel.video.colour import composite, is_transparent
from evenreel.video.info import Leave, ReadSettings, VideoInfo
from evenreel.video.pictures import CODE_POINTS, opened_picture
from evenreel.video.png_tags import tags_to_srgb
from evenreel.video.profiles import to_srgb


@dataclass(frozen=True)
class Picture:
    """One upright RGB frame, (1, height, width, 3), shown from `start` to `end` (exact seconds)."""

    pixels: Pixels
    start: Fraction
    end: Fraction
    transparent: bool = False
    """Whether parts of it were transparent, and lie on a background now."""


def still(info: VideoInfo, settings: ReadSettings, index: int) -> Picture:
    """Read image number `index`."""
    file = info.images[index]
    pixels, transparent = _read(file, settings)
    if pixels.shape[1:3] != (info.height, info.width):
        raise ClipError(
            f"{shown(file)} is now {pixels.shape[2]} x {pixels.shape[1]} pixels and was "
            f"{info.width} x {info.height}; leave the folder alone while it is read."
        )
    return Picture(pixels, index / settings.image_rate, (index + 1) / settings.image_rate, transparent)


def _read(file: Path, settings: ReadSettings) -> tuple[Pixels, bool]:
    """One image, upright, as (1, height, width, 3), and whether parts are transparent; ClipError where damaged."""
    images.header(file, settings)  # the size is checked again: a file may change between a probe and a read
    with opened_picture(file) as image:
        return _as_pixels(image, settings)


def animated(info: VideoInfo, settings: ReadSettings, leave: Leave) -> Iterator[Picture]:
    """Yield all frames.

    Raises ClipError where the file is damaged, or ends, unless that is allowed: the clip then ends there too.
    """
    start = Fraction(0)
    done = 0
    try:
        with opened_picture(info.path) as image:
            for number in animation.numbers(image):
                lasts = animation.lasts(image, number)
                pixels, transparent = _as_pixels(image, settings)
                if pixels.shape[1:3] != (info.height, info.width):
                    raise ClipError(f"{shown(info.path)} has changed; leave the file alone while it is read.")
                yield Picture(pixels, start, start + lasts, transparent)
                start += lasts
                done += 1
    except ClipError as error:
        if done and leave.truncated:
            return
        raise ClipError(
            f"{shown(info.path)}: decoded {done} of {info.frame_count} frames; the file is damaged or cut short; "
            f"re-download it, or pass {argument('allow_truncated')} to use what is there."
        ) from error


def _as_pixels(image: Image.Image, settings: ReadSettings) -> tuple[Pixels, bool]:
    """An open image, upright, in sRGB, on the background, as (1, height, width, 3), and whether it shows through."""
    info = dict(image.info)
    profile = None if CODE_POINTS in info else info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        # 16-bit grey: Pillow would clip it at 255 instead of scaling it
        grey = np.asarray(upright).astype(np.float64)
        upright = Image.fromarray(np.rint(grey.clip(0, 65535) / 257).astype(np.uint8))
    if upright.has_transparency_data:
        rgba = torch.from_numpy(np.array(to_srgb(upright.convert("RGBA"), profile)))
        rgba[..., :3] = tags_to_srgb(rgba[..., :3], info)
        return composite(rgba, settings.background)[None], is_transparent(rgba)
    rgb = torch.from_numpy(np.array(to_srgb(upright, profile).convert("RGB")))
    return tags_to_srgb(rgb, info)[None], False
