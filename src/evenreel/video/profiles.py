"""ICC profiles: colours as a picture's own profile means them, turned into sRGB with LittleCMS."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

CONVERTED = ("RGB", "L", "CMYK")
"""Modes of Pillow that profiles are made for here."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to RGB, or RGBA where there is alpha; as it is where there is no profile, or none that can be applied."""
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    mode = {"RGBA": "RGB", "LA": "L", "P": "RGB"}.get(image.mode, image.mode)
    if not profile or mode not in CONVERTED:
        return image
    transform = _transform(profile, mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image.convert(mode), transform)
    assert converted is not None  # None only where it is converted in place
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def pixels_to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert (height, width, 3) uint8 RGB."""
    return np.array(to_srgb(Image.fromarray(pixels), profile))


@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None  # the conversion would move some levels by one, for nothing
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # damaged, or for another kind of picture
