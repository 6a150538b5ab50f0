"""Frames of a video file, one at a time, with their times and what was found damaged on the way."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

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
from evenreel.video.complete import Tally, check_complete, cut_short, is_cut
from evenreel.video.damage import Holes, heard, listed, told
from evenreel.video.deinterlace import Deinterlacer
from evenreel.video.info import Leave, ReadSettings, VideoInfo
from evenreel.video.source import demuxed, opened, reason_of
from evenreel.video.streams import sane_rate, video_stream

UNDECODABLE = (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.ExternalError)
"""What decoders raise for packets of which they can make nothing."""
ORDERED_BY_DECODING = "avi"
"""A container that stores no time at which frames are shown: FFmpeg's guesses are wrong where frames are reordered."""
LOST = -(2**63)
"""Stands for the timestamp of what has none."""


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame as stored (not yet upright or RGB), shown from `start` to `end` (exact seconds)."""

    frame: av.video.frame.VideoFrame
    start: Fraction
    end: Fraction


def decoder_for(
    stream: av.video.stream.VideoStream, settings: ReadSettings
) -> av.video.codeccontext.VideoCodecContext:
    """Return the decoder to use, with the limit on pixels set and nothing decoded yet."""
    context = stream.codec_context
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
    # FFmpeg's own VP8 and VP9 decoders drop the alpha channel, and that for VP9 shows damage as if nothing were wrong
    wanted = context.name == "vp9" or stream.metadata.get("alpha_mode") == "1"
    if library and wanted and library in av.codecs_available:
        context = av.CodecContext.create(library, "r")
        assert isinstance(context, av.video.codeccontext.VideoCodecContext)
    # pictures of HEVC and VVC may carry their checksums, and FFmpeg compares them when told to
    context.options = {"max_pixels": str(settings.max_pixels), "err_detect": "crccheck"}
    if not context.name.startswith("lib"):
        context.thread_count = 1  # threads of FFmpeg's own report damage late, and not to the one that asks
    return context


@dataclass(frozen=True)
class Suspect:
    """A packet at which something was reported."""

    number: int
    """Its place among the packets that were decoded, from 1."""
    reason: str


class Decoder:
    """Decodes the pictures of one file, once."""

    def __init__(self, info: VideoInfo, settings: ReadSettings, leave: Leave) -> None:
        self._info = info
        self._settings = settings
        self._leave = leave
        self._tally = Tally()
        self._suspects: dict[int, Suspect] = {}
        """By timestamp."""
        self._numbers: dict[int, int] = {}
        """Which packet a frame that is still to come, known by its timestamp, is in."""
        self._orders: list[int] = []
        self._read_out = False
        self.damaged: list[int] = []
        """Numbers of the frames that are damaged, where that is allowed."""

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames in the order shown, deinterlaced.

        Raises ClipError where the file is damaged or cut short, unless that is allowed; packets that do not decode are
        then left out, frames in which something was concealed stay in, and a short file simply ends.
        """
        with opened(self._info.path, self._settings) as container:
            stream = video_stream(container, self._info.path)
            rate = sane_rate(stream)
            nominal = 1 / rate if rate else Fraction(1, 25)
            previous: TimedFrame | None = None
            for frame in _deinterlaced(self._decoded(container, stream)):
                timed = _timed(frame, stream, previous, nominal, fields=self._tally.paired)
                if previous is not None:
                    # a frame is shown until the next one; its own duration only counts for the last
                    yield TimedFrame(previous.frame, previous.start, timed.start)
                self._tally.video_end = timed.end
                previous = timed
            if previous is not None:
                yield previous
            if not self._leave.truncated:
                check_complete(self._info, container, stream, self._tally, nominal)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people should know of the frames read so far."""
        if not self.damaged:
            return ()
        number = "frame" if len(set(self.damaged)) == 1 else "frames"
        return (
            f"{shown(self._info.path)} is damaged at {number} {listed(self.damaged)}; what can be read is used.",
        )

    def _decoded(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.video.frame.VideoFrame]:
        decoder = decoder_for(stream, self._settings)
        keyframe_seen = False
        for packet in self._ahead(container, stream):
            messages: list[tuple[int, str, str]] = []
            reason, frames = None, []
            try:
                with heard() as messages:
                    frames = decoder.decode(packet)
            except UNDECODABLE as error:
                reason = reason_of(error)
            reason = told(messages, decoder.name) or reason
            keyframe_seen |= packet is None or packet.is_keyframe
            # what comes before the first whole picture leans on pictures cut away on purpose
            if reason is not None and (self._tally.frames or frames or keyframe_seen):
                pts = packet.pts if packet is not None else None
                self._suspect(pts, reason)
            for frame in frames:
                yield self._checked(frame, stream)
        self._accuse(None, stream)

    def _ahead(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.packet.Packet | None]:
        """What to decode, one packet late, so that the last is known as such; then None, for what is still held."""
        held: av.packet.Packet | None = None
        for packet in self._packets(container, stream):
            if held is not None:
                yield held
            held = packet
        self._read_out = True
        if held is not None:
            yield held
        yield None

    def _packets(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.packet.Packet]:
        """The packets of the pictures that are not empty, noted in the tally."""
        tally, clock, holes = self._tally, Clock(container), Holes(self._info.codec)
        # other streams are read past as well: where they too stop early, the file is cut short
        packets = demuxed(
            container, stream, *(s for s in container.streams if s.type in ("audio", "subtitle"))
        )
        while True:
            with heard() as messages:
                packet = next(packets, None)
            reason = told(messages, container.format.name, stream.codec_context.name)
            if reason and (packet is None or packet.stream is not stream):
                self._suspects.setdefault(LOST, Suspect(tally.sized_count + 1, reason))
            if packet is None:
                return
            if packet.stream is stream:
                clock.mend(packet)
            tally.note_end(packet)
            if packet.stream is not stream:
                continue
            tally.packet_count += 1
            if packet.size == 0:
                continue  # AVI and QuickTime: the picture before stays
            tally.sized_count += 1
            if packet.pts is not None:
                self._numbers[packet.pts] = tally.sized_count
                if not packet.is_discard:
                    tally.packets.append(packet.pts)
            if reason:
                self._suspect(packet.pts, reason)
            if pts := holes.seen(packet, restarts=len(clock.shifts)):
                self._suspect(pts, "the file lacks parts of it")
            if container.format.name == ORDERED_BY_DECODING and packet.dts is not None:
                heappush(self._orders, packet.dts)
            yield packet

    def _checked(
        self, frame: av.video.frame.VideoFrame, stream: av.video.stream.VideoStream
    ) -> av.video.frame.VideoFrame:
        """Count a frame, raise what is wrong with it, and give it its time."""
        if frame.is_corrupt:
            self._suspect(frame.pts, "parts of it could not be decoded")
        self._accuse(frame.pts, stream)
        self._numbers.pop(LOST if frame.pts is None else frame.pts, None)
        self._tally.note_frame(frame)
        if self._orders:
            frame.pts = heappop(self._orders)
        if frame.time_base is None and stream.time_base is not None:
            frame.time_base = stream.time_base  # frames that a flush brings out come without one
        return frame

    def _suspect(self, pts: int | None, reason: str) -> None:
        key = LOST if pts is None else pts
        number = self._numbers.get(key, self._tally.sized_count)
        self._suspects.setdefault(key, Suspect(number, reason))

    def _accuse(self, pts: int | None, stream: av.video.stream.VideoStream) -> None:
        """Raise, or note where it is allowed, the damage up to the frame with a timestamp; None: all there is."""
        for key in sorted(key for key in self._suspects if pts is None or key <= pts):
            suspect = self._suspects.pop(key)
            number = self._tally.frames if pts is not None else max(0, self._tally.frames - 1)
            # the last packet of a file that ends early is cut through
            at_the_end = self._read_out and suspect.number >= self._tally.sized_count
            if self._leave.damaged or (self._leave.truncated and at_the_end):
                self.damaged.append(number)
                continue
            if at_the_end and is_cut(self._info, stream):
                raise cut_short(self._info, self._tally)
            raise ClipError(
                f"{shown(self._info.path)} is damaged at frame {number} ({suspect.reason}); "
                f"download it again, or pass {argument('allow_damaged')} to use what can be read."
            )


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
    *,
    fields: bool,
) -> TimedFrame:
    time_base = frame.time_base or stream.time_base or Fraction(1, 1000)
    earliest = previous.start if previous else None
    start = frame.pts * time_base if frame.pts is not None else None
    if start is None or (earliest is not None and start <= earliest):
        # no timestamp, or one that goes back in time: carry on at the nominal rate
        start = Fraction(0) if earliest is None else earliest + nominal
    lasts = frame.duration * time_base if frame.duration else Fraction(0)
    if fields and earliest is not None:
        lasts = max(lasts, start - earliest)  # where each field has a packet, that is how long a field lasts
    return TimedFrame(frame, start, start + (lasts if lasts > 0 else nominal))
