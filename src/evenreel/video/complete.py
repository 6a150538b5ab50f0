"""Whether all pictures that a file promises were there.

What is promised is judged by the pictures' own stream: the samples that an edit list leaves in, the index, the stream's
own duration, and whether the file is as long as its container says. Lengths of other streams, and of the file as a
whole, say nothing of the pictures.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.container
import av.packet
import av.video.frame
import av.video.stream

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.video.info import VideoInfo
from evenreel.video.structure import missing_bytes

ADVICE = f"re-download it, or pass {argument('allow_truncated')} to use what is there."
GUESSED = ("mpegts", "mpeg", "matroska,webm", "gif", "avi")
"""Formats of whose files FFmpeg's duration is a guess from what is there, or that of the longest stream."""
ONE_EACH = ("av1", "vp9")
"""Codecs of which every packet shows a frame, whatever the container."""
HIDDEN = ("vp8",)
"""Codecs with packets that show nothing."""


@dataclass
class Tally:
    """What was read of a file."""

    packets: list[int] = field(default_factory=list)
    """Timestamps of the packets that should each give a frame."""
    packet_count: int = 0
    sized_count: int = 0
    """Packets that were not empty."""
    frames: int = 0
    shown: set[int] = field(default_factory=set)
    """Timestamps of the frames."""
    paired: bool = False
    """Whether frames are interlaced: their second fields may come in packets of their own."""
    first_pts: int | None = None
    video_end: Fraction = Fraction(0)
    any_end: Fraction = Fraction(0)

    def note_frame(self, frame: av.video.frame.VideoFrame) -> None:
        """Count a frame."""
        self.frames += 1
        self.paired |= frame.interlaced_frame
        if frame.pts is not None:
            self.shown.add(frame.pts)
            self.first_pts = frame.pts if self.first_pts is None else self.first_pts

    def note_end(self, packet: av.packet.Packet) -> None:
        """Remember how far any stream goes."""
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self.any_end = max(self.any_end, end)


def check_complete(
    info: VideoInfo,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    tally: Tally,
    nominal: Fraction,
) -> None:
    """Raise ClipError where pictures are missing."""
    name = shown(info.path)
    if tally.frames == 0:
        raise ClipError(f"{name} holds no frames that decode; download or export it again.")
    if _beyond_the_end(info, stream):
        raise cut_short(info, tally)
    if lost := _lost(info, tally):
        raise ClipError(
            f"{name}: decoded {tally.frames} of {tally.frames + lost} frames; the file is damaged; {ADVICE}"
        )
    tolerance = max(Fraction(3, 2) * nominal, Fraction(1, 20))
    end = declared_end(stream, info.start_time)
    if container.format.name == "avi":
        end = _avi_end(info)
    late = end - tally.video_end if end is not None else None
    if is_cut(info, stream) and (late is None or late > 0 or container.format.name == "gif"):
        raise cut_short(info, tally, late)
    if container.format.name == "avi":
        return  # it is as long as it says, and its counts are often placeholders
    if late is None and container.format.name not in GUESSED and container.duration is not None:
        # the container's duration is that of its longest stream, so only what all streams miss is missing
        late = Fraction(container.duration, av.time_base) - max(tally.any_end, tally.video_end)
    if late is not None and late > tolerance:
        raise cut_short(info, tally, late)


def is_cut(info: VideoInfo, stream: av.video.stream.VideoStream) -> bool:
    """Return whether the file ends before its container, or its index, says."""
    return bool(missing_bytes(info.path, stream.container.format.name) or _beyond_the_end(info, stream))


def cut_short(info: VideoInfo, tally: Tally, late: Fraction | None = None) -> ClipError:
    """Return the error to raise for a file that ends `late` seconds early, where that is known."""
    total = info.estimated_frame_count
    of = f" of {total} declared frames" if total and total > tally.frames else " frames"
    by = f" by {float(late):.2f} s" if late else ""
    return ClipError(f"{shown(info.path)}: decoded {tally.frames}{of}; the file is cut short{by}; {ADVICE}")


def declared_end(stream: av.video.stream.VideoStream, start: Fraction) -> Fraction | None:
    """Return the second at which the stream's pictures, the first shown at `start`, are said to end; None where not
    told."""
    if stream.container.format.name in ("mpegts", "mpeg"):
        return None  # FFmpeg's guess
    # Matroska's tag: FFmpeg counts from zero, others from the first picture; the smaller claim is held against a file
    told = _tagged_end(stream)
    if stream.container.format.name == "matroska,webm" and told is not None:
        return told  # what FFmpeg calls the stream's duration there may be that of the sound
    if stream.duration and stream.time_base:
        length = stream.duration * stream.time_base
        return None if _is_of_the_whole(stream, length) else start + length
    return told


def _tagged_end(stream: av.video.stream.VideoStream) -> Fraction | None:
    tag = stream.metadata.get("DURATION") or stream.metadata.get("DURATION-eng")
    try:
        hours, minutes, seconds = (tag or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.rstrip("\0 "))
    except (ValueError, ZeroDivisionError):
        return None


def _is_of_the_whole(stream: av.video.stream.VideoStream, length: Fraction) -> bool:
    """Whether a Matroska stream's length may be that of another stream, as the file's is."""
    container = stream.container
    if not isinstance(container, av.container.InputContainer) or container.duration is None:
        return False
    if container.format.name != "matroska,webm" or len(container.streams) < 2:
        return False
    return abs(length - Fraction(container.duration, av.time_base)) < Fraction(1, 500)


def _avi_end(info: VideoInfo) -> Fraction | None:
    # AVI counts units of time: pictures that stay are among them, and two frames may share a packet
    if info.frame_count is None or info.average_rate is None:
        return None
    return info.start_time + info.frame_count / info.average_rate


def _beyond_the_end(info: VideoInfo, stream: av.video.stream.VideoStream) -> int:
    """How many of the pictures that an MP4's index names lie beyond the end of the file."""
    if not stream.container.format.name.startswith("mov"):
        return 0
    size = info.path.stat().st_size
    return sum(not entry.is_discard and entry.pos + entry.size > size for entry in stream.index_entries)


def _lost(info: VideoInfo, tally: Tally) -> int:
    """Packets of which no frame came, though each should give one."""
    if info.container == "avi" or info.codec in HIDDEN:
        return 0
    if info.frame_count is None and info.codec not in ONE_EACH:
        return 0
    # frames before the first that decodes lean on pictures cut away on purpose; players skip them as well
    first = tally.first_pts
    due = [pts for pts in tally.packets if first is None or pts >= first]
    if not tally.paired:
        return max(0, len(due) - tally.frames)
    # a second field belongs to the frame before it
    fields = sum(pts not in tally.shown for pts in due)
    return max(0, fields - tally.frames)
