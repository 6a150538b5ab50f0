"""A mask that is painted on a frame of the clip: white where it was painted, kept beside the page's clips."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evenreel.errors import SettingsError
from evenreel.files import write_atomically
from evenreel.video import load
from evenreel.web.queue import folder, made_room

SEEN = 8
"""Of 255: paint that is more transparent than this is none."""


def canvas_of(clip: str | None, frame: int | None = None) -> dict[str, Any] | None:
    """Return what the field for painting shows of a clip: a frame, the first where none is told, and nothing painted.

    Raises: ClipError, also for a frame that the clip does not have.
    """
    if not clip:
        return None
    number = int(frame or 0)
    picture = load(Path(clip), number, number + 1).frames[0].numpy()
    return {"background": picture, "layers": [], "composite": picture}


def painted(value: dict[str, Any] | None) -> Path | None:
    """Keep what was painted, as an image of the frame's size; None where nothing was.

    `value` holds `background` and `layers`, uint8 (height, width, 4), as gradio's ImageEditor gives them. Raises:
    SettingsError for layers of different sizes, OutputError where the image cannot be kept.
    """
    layers = [np.asarray(layer) for layer in (value or {}).get("layers") or [] if layer is not None]
    if len({layer.shape[:2] for layer in layers}) > 1:
        raise SettingsError("the painted layers differ in size; clear the mask and paint it again.")
    strong = [layer[..., 3] > SEEN for layer in layers]
    if not strong or not np.any(strong):
        return None
    mask = Image.fromarray(np.any(strong, axis=0).astype(np.uint8) * 255)
    encoded = io.BytesIO()
    mask.save(encoded, "PNG")
    target = folder() / "masks" / f"{hashlib.sha256(encoded.getvalue()).hexdigest()[:16]}.png"
    if not target.is_file():
        made_room(target)
        write_atomically(target, encoded.getvalue())
    return target
