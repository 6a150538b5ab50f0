"""Pictures as bytes and back: frames bit for bit, depth and flow as 16-bit grey."""

import io
import warnings

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from evenreel.errors import DataError

PNG_LEVEL = 3
"""Of 512 px frames, level 6 saves 5% and takes three times as long to write."""
JPEG_QUALITY = 95
FLOW_UNITS = 64
"""Steps to a pixel in which flow is kept."""
FLOW_ZERO = 1 << 15
DEPTH_UNITS = (1 << 16) - 1


def encoded(picture: np.ndarray, image_format: str = "png") -> bytes:
    """Return a picture (RGB, or 8- or 16-bit grey) as PNG or JPEG."""
    file = io.BytesIO()
    if image_format == "png":
        Image.fromarray(picture).save(file, "PNG", compress_level=PNG_LEVEL)
    else:
        Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def decoded(data: bytes, size: tuple[int, int], mode: str) -> np.ndarray:
    """Undo `encoded`. The header must name `size` (width, height) and `mode` (RGB, L, I;16) before more is read.

    Raises DataError, which does not say where, for anything else and for damage.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pictures that are too large, which the size tells better
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                if image.size != size or image.mode != mode:
                    raise DataError(
                        f"is {image.width} x {image.height} {image.mode} and not {size[0]} x {size[1]} {mode}"
                    )
                return np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise DataError("is not a picture that can be read") from error


def packed_flow(flow: Float[Tensor, "2 height width"]) -> np.ndarray:
    """Pack flow into a 16-bit picture, x above y, in 64ths of a pixel around the middle; up to 512 pixels either
    way."""
    steps = (flow * FLOW_UNITS).round() + FLOW_ZERO
    return steps.clamp(0, 65535).flatten(0, 1).numpy().astype(np.uint16)


def unpacked_flow(picture: np.ndarray) -> Float[Tensor, "2 height width"]:
    """Undo `packed_flow`."""
    steps = torch.from_numpy(picture.astype(np.float32)) - FLOW_ZERO
    return (steps / FLOW_UNITS).unflatten(0, (2, -1))


def packed_depth(depth: Float[Tensor, "height width"]) -> np.ndarray:
    """Pack depth in [0, 1] into a 16-bit picture."""
    return (depth * DEPTH_UNITS).round().numpy().astype(np.uint16)


def unpacked_depth(picture: np.ndarray) -> Float[Tensor, "height width"]:
    """Undo `packed_depth`."""
    return torch.from_numpy(picture.astype(np.float32)) / DEPTH_UNITS
