"""Frames of a video file, one at a time, with the checks that tell a whole file from a damaged one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.container
import av.error
import av.packet
import av.video.codeccontext
import av.video.frame
import av.video.stream

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.video.clock import Clock
from evenreel.video.deinterlace import Deinterlacer
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.source import demuxed, opened, reason_of
from evenreel.video.streams import video_stream

MAX_RATE = 1000
"""Frames a second above which a declared rate is taken for a damaged header."""


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame as stored (not yet upright or RGB), shown from `start` to `end` (exact seconds)."""

    frame: av.video.frame.VideoFrame
    start: Fraction
    end: Fraction


@dataclass
class Tally:
    """What was read of a file, to hold against what it declares."""

    packets: list[int] = field(default_factory=list)
    """Timestamps of the video packets that should each give a frame, still to be matched."""
    packet_count: int = 0
    frames: int = 0
    first_pts: int | None = None
    video_end: Fraction = Fraction(0)
    any_end: Fraction = Fraction(0)


def sane_rate(stream: av.video.stream.VideoStream) -> Fraction | None:
    """The declared frame rate, or None where it makes no sense."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and 0 < rate <= MAX_RATE:
            return Fraction(rate)
    return None


def decoder_for(
    stream: av.video.stream.VideoStream, settings: ReadSettings
) -> av.video.codeccontext.VideoCodecContext:
    """The decoder to use, with the limit on pixels set and nothing decoded yet."""
    context = stream.codec_context
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
    if library and stream.metadata.get("alpha_mode") == "1" and library in av.codecs_available:
        # FFmpeg's own VP8 and VP9 decoders drop the alpha channel
        context = av.CodecContext.create(library, "r")
        assert isinstance(context, av.video.codeccontext.VideoCodecContext)
    context.options = {"max_pixels": str(settings.max_pixels)}
    context.thread_type = "AUTO"
    return context


def decode(info: VideoInfo, settings: ReadSettings, *, allow_truncated: bool) -> Iterator[TimedFrame]:
    """All frames in the order shown, deinterlaced; ClipError where the file is damaged or cut short.

    With `allow_truncated`, packets that do not decode are left out and a short file simply ends.
    """
    with opened(info.path, settings) as container:
        stream = video_stream(container, info.path)
        tally = Tally()
        rate = sane_rate(stream)
        nominal = 1 / rate if rate else Fraction(1, 25)
        previous: TimedFrame | None = None
        for frame in _deinterlaced(_frames(container, stream, info, settings, tally, allow_truncated)):
            timed = _timed(frame, stream, previous, nominal)
            if previous is not None:
                # a frame is shown until the next one; its own duration only counts for the last
                yield TimedFrame(previous.frame, previous.start, timed.start)
            tally.video_end = timed.end
            previous = timed
        if previous is not None:
            yield previous
        if not allow_truncated:
            _check_complete(info, container, stream, tally, nominal)


def _frames(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    info: VideoInfo,
    settings: ReadSettings,
    tally: Tally,
    allow_truncated: bool,
) -> Iterator[av.video.frame.VideoFrame]:
    decoder = decoder_for(stream, settings)
    for packet in _video_packets(container, stream, tally):
        try:
            decoded = decoder.decode(packet)
        except (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.ExternalError) as error:
            if allow_truncated:
                continue
            raise ClipError(
                f"{shown(info.path)} is damaged after frame {tally.frames} ({reason_of(error)}); "
                f"download it again, or pass {argument('allow_truncated')} to edit what can be read."
            ) from error
        for frame in decoded:
            tally.frames += 1
            if tally.first_pts is None:
                tally.first_pts = frame.pts
            if frame.time_base is None and stream.time_base is not None:
                frame.time_base = stream.time_base  # frames that a flush brings out come without one
            yield frame


def _video_packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, tally: Tally
) -> Iterator[av.packet.Packet | None]:
    """What to decode, noted in the tally, and None at the end: the decoder is to give what it still holds."""
    # sound is read past as well: where both stop early, the file is cut short and not just longer in sound
    clock = Clock(container)
    for packet in demuxed(container, stream, *container.streams.audio):
        if packet.stream is stream:
            clock.mend(packet)
        _note_end(packet, tally)
        if packet.stream is not stream:
            continue
        tally.packet_count += 1
        if packet.size == 0:
            continue  # AVI and QuickTime: the picture before stays
        if not packet.is_discard and packet.pts is not None:
            tally.packets.append(packet.pts)
        yield packet
    yield None


def _deinterlaced(frames: Iterator[av.video.frame.VideoFrame]) -> Iterator[av.video.frame.VideoFrame]:
    deinterlacer = Deinterlacer()
    for frame in frames:
        yield from deinterlacer.push(frame)
    yield from deinterlacer.flush()


def _timed(
    frame: av.video.frame.VideoFrame,
    stream: av.video.stream.VideoStream,
    previous: TimedFrame | None,
    nominal: Fraction,
) -> TimedFrame:
    time_base = frame.time_base or stream.time_base or Fraction(1, 1000)
    earliest = previous.start if previous else None
    start = frame.pts * time_base if frame.pts is not None else None
    if start is None or (earliest is not None and start <= earliest):
        # no timestamp, or one that goes back in time: carry on at the nominal rate
        start = Fraction(0) if earliest is None else earliest + nominal
    lasts = frame.duration * time_base if frame.duration else Fraction(0)
    return TimedFrame(frame, start, start + (lasts if lasts > 0 else nominal))


def _note_end(packet: av.packet.Packet, tally: Tally) -> None:
    if packet.pts is not None and packet.time_base:
        end = (packet.pts + (packet.duration or 0)) * packet.time_base
        tally.any_end = max(tally.any_end, end)


def _check_complete(
    info: VideoInfo,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    tally: Tally,
    nominal: Fraction,
) -> None:
    advice = f"re-download it, or pass {argument('allow_truncated')} to edit what is there."
    declared = None if container.format.name == "avi" else info.frame_count  # see `_missing_seconds`
    if declared is not None and tally.packet_count < declared:
        raise ClipError(
            f"{shown(info.path)}: decoded {tally.frames} of {declared} declared frames; "
            f"the file is cut short; {advice}"
        )
    first = tally.first_pts
    # frames before the first that decodes lean on pictures cut away on purpose; players skip them as well
    due = sum(pts >= first for pts in tally.packets) if first is not None else len(tally.packets)
    if declared is not None and tally.frames < due:
        raise ClipError(
            f"{shown(info.path)}: decoded {tally.frames} of {due} frames; the file is damaged; {advice}"
        )
    if tally.frames == 0:
        raise ClipError(f"{shown(info.path)} holds no frames that decode; download or export it again.")
    missing = _missing_seconds(info, container, stream, tally)
    if missing > max(Fraction(3, 2) * nominal, Fraction(1, 20)):
        total = info.estimated_frame_count
        of = f" of {total} declared frames" if total and total > tally.frames else " frames"
        raise ClipError(
            f"{shown(info.path)}: decoded {tally.frames}{of}; "
            f"the file is cut short by {float(missing):.2f} s; {advice}"
        )


def _missing_seconds(
    info: VideoInfo,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    tally: Tally,
) -> Fraction:
    end = declared_end(stream, info.start_time)
    if container.format.name == "avi" and info.frame_count is not None and info.average_rate is not None:
        # AVI counts units of time: pictures that stay are among them, and two frames may share a packet. Its
        # duration is of no use, for FFmpeg guesses one from the file's size where the index is missing.
        end = info.start_time + info.frame_count / info.average_rate
    if end is not None:
        return end - tally.video_end
    if container.duration is None:
        return Fraction(0)
    # the container's duration is that of its longest stream, so only what all streams miss is missing
    return Fraction(container.duration, av.time_base) - max(tally.any_end, tally.video_end)


def declared_end(stream: av.video.stream.VideoStream, start: Fraction) -> Fraction | None:
    """Second at which the stream's pictures, the first shown at `start`, are said to end; None where not told."""
    if stream.duration and stream.time_base:
        return start + stream.duration * stream.time_base
    # Matroska's tag: FFmpeg counts from zero, others from the first picture; the smaller claim is held against a file
    tag = stream.metadata.get("DURATION") or stream.metadata.get("DURATION-eng")
    try:
        hours, minutes, seconds = (tag or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.rstrip("\0 "))
    except (ValueError, ZeroDivisionError):
        return None
