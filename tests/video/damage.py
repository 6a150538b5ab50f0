"""What tests of faults share: how a clip is refused, and how one is damaged."""

import os
import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest

from evenreel.errors import ClipError
from evenreel.video import load, open_clip

SECONDS = 5
"""Of processor time, which a busy machine does not stretch; more than any refusal may take."""


def refused(path: str | os.PathLike[str], *, allow_truncated: bool = False) -> str:
    """The text of the ClipError that loading ends in, checked for its form: one line that ends like a sentence."""
    begun = time.process_time()
    with pytest.raises(ClipError) as caught:
        load(path, allow_truncated=allow_truncated)
    assert time.process_time() - begun < SECONDS
    check_form(caught.value)
    return str(caught.value)


def check_form(error: ClipError) -> None:
    assert str(error).endswith(".")
    assert str(error).isprintable()


def frames_or_refusal(path: Path, *, allow_truncated: bool = False) -> int | None:
    """How many frames load, or None for a ClipError; any other exception, or a long wait, is a failure."""
    begun = time.process_time()
    count = 0
    try:
        for pixels, times in open_clip(path, allow_truncated=allow_truncated):
            assert len(pixels) == len(times)
            count += len(pixels)
    except ClipError as error:
        check_form(error)
        count = None
    assert time.process_time() - begun < SECONDS
    return count


def flipped(data: bytes, places: list[int]) -> bytes:
    """Bytes with every bit of some of them turned over."""
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 0xFF
    return bytes(damaged)


def box_at(data: bytes, name: bytes) -> int:
    """Where the contents of the first box of a name begin, in an MP4."""
    return data.index(name) + 4


def top_boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, start and end of the outermost boxes of an MP4."""
    boxes, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        boxes.append((name, at, at + size))
        at += size
    return boxes


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
