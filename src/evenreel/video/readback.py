"""What was written, opened and counted before it takes its name: a result that cannot be read is not a result."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av.error
from PIL import Image

from evenreel.errors import ClipError, OutputError, argument
from evenreel.files import shown
from evenreel.video.decode import Decoder
from evenreel.video.info import Leave, ReadSettings
from evenreel.video.probe import probe
from evenreel.video.sinks import Written
from evenreel.video.source import demuxed, opened, reason_of

ROUNDING = Fraction(1, 500)
"""Seconds by which a container may round how long a frame lasts; Matroska rounds both ends to milliseconds."""
SHIFT = Fraction(1, 5)
"""Seconds by which a container may move all times, where sound begins before the pictures."""
SLACK = Fraction(1, 4)
"""Seconds by which the sound may end off what was written: containers cut packets as they like."""
LARGEST = ReadSettings(max_pixels=2**31 - 1)
"""What was written is read whatever its size."""


def read_back(path: Path, final: Path, size: tuple[int, int], written: Written) -> None:
    """Raise OutputError where the file at `path`, to be called `final`, is not what was written."""
    try:
        fault = _folder_fault(path, size, written) if path.is_dir() else _file_fault(path, size, written)
    except (ClipError, av.error.FFmpegError, OSError, SyntaxError, ValueError) as error:
        fault = reason_of(error).replace(str(path), "it").rstrip(".")
    if fault is not None:
        raise OutputError(
            f"{shown(final)} was written but cannot be read back ({fault}); "
            f"free space there, or choose another {argument('output')} or another kind of file."
        )


def _folder_fault(path: Path, size: tuple[int, int], written: Written) -> str | None:
    files = sorted(path.iterdir())
    if len(files) != written.frame_count:
        return f"it holds {len(files)} of {written.frame_count} frames"
    for file in files:
        with Image.open(file) as image:
            if image.size != size:
                return f"{file.name} is {image.size[0]} x {image.size[1]} pixels"
            image.verify()
    return None


def _file_fault(path: Path, size: tuple[int, int], written: Written) -> str | None:
    info = probe(path, LARGEST)
    if (info.width, info.height) != size:
        return f"its frames are {info.width} x {info.height} pixels"
    starts, end = [], Fraction(0)
    for timed in Decoder(info, LARGEST, Leave()).frames():
        starts.append(timed.start)
        end = timed.end
    if len(starts) != written.frame_count:
        return f"it holds {len(starts)} of {written.frame_count} frames"
    times = [*starts, end]
    wanted = [*written.times, written.end]
    if abs(times[0] - wanted[0]) > SHIFT:
        return f"its first frame is shown at {float(times[0]):.3f} s"
    lasting = [later - earlier for earlier, later in pairwise(times)]
    for index, (earlier, later) in enumerate(pairwise(wanted)):
        if abs(lasting[index] - (later - earlier)) > ROUNDING:
            return f"frame {index} lasts {float(lasting[index]):.3f} s"
    return _sound_fault(path, written, starts[0] - wanted[0])


def _sound_fault(path: Path, written: Written, shift: Fraction) -> str | None:
    if not written.sound_packets:
        return None
    ends: Fraction | None = None
    heard = 0
    with opened(path, LARGEST) as container:
        if not container.streams.audio:
            return "its sound is missing"
        stream = container.streams.audio[0]
        for packet in demuxed(container, stream):
            if packet.pts is not None and packet.time_base:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                ends = end if ends is None else max(ends, end)
            try:
                heard += sum(frame.samples for frame in stream.codec_context.decode(packet))
            except av.error.FFmpegError:
                continue  # damaged sound is carried over as it is, with a warning
    if ends is None or not heard:
        return "its sound is silent or missing"
    if abs(ends - shift - written.sound_end) > SLACK:
        return f"its sound ends at {float(ends):.3f} s"
    return None
