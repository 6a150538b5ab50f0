"""The sound of a source, carried over to a result: packets as they are, or encoded again."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

import av.audio.frame
import av.audio.stream
import av.container
import av.error
import av.packet
from av.audio.layout import AudioLayout

from evenreel.files import shown
from evenreel.video.clock import Clock, SoundClock
from evenreel.video.encoders import Recipe, WriteSettings
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.resample import Resampler, part_of
from evenreel.video.source import demuxed, opened, reason_of
from evenreel.video.streams import chosen_sound, known_language, video_stream

BROKEN = (av.error.FFmpegError, ValueError, OverflowError)
"""What PyAV raises for sound that cannot be decoded, encoded or carried by a container."""
MOST_RATE = 48_000
"""Samples a second to which sound is encoded again: more is not heard."""
SYNC = Fraction(1, 50)
"""Seconds by which sound may begin or end off the part of a clip that it belongs to."""
RUN_UP = Fraction(1, 10)
"""Seconds of sound that are decoded before a part begins: the first packet that a decoder sees comes out wrong."""
CUTTING = ("mp4", "mov")
"""FFmpeg's names of muxers that hide sound before the beginning by an edit list; others move the pictures to later."""
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""The usual arrangement of so many channels, for sound that names none or one that an encoder does not take."""


@dataclass(frozen=True, kw_only=True)
class SoundPlan:
    """What becomes of a source's sound."""

    track: int
    """Which of its sound tracks, from 1."""
    codec: str
    """Of the result."""
    copied: bool
    """Whether packets are passed on as they are; encoded again otherwise."""
    rate: int = 0
    """Samples a second to encode at."""
    layout: str = ""
    """Channels to encode, as FFmpeg names them."""

    @property
    def channels(self) -> int:
        """How many channels `layout` has."""
        return AudioLayout(self.layout).nb_channels


class AudioTrack:
    """Feeds the sound of `source` into `output`, in step with the pictures.

    Times are exact seconds on the source's clock; `origin` is the one that becomes 0 in the output, and sound before
    `begin` is left out: to the sample where it is encoded, to the nearest packet where it is copied. Whatever is wrong
    with the sound ends it with a line in `warnings`: pictures that took hours are not thrown away for it. With
    `strict`, what cannot be written raises one of BROKEN instead.
    """

    def __init__(
        self,
        source: VideoInfo,
        output: av.container.OutputContainer,
        plan: SoundPlan,
        recipe: Recipe,
        settings: WriteSettings,
        *,
        origin: Fraction,
        begin: Fraction | None,
        strict: bool = False,
    ) -> None:
        self._strict = strict
        self._source = source
        self._output = output
        self._origin = origin
        self._begin = begin
        self._until: Fraction | None = None
        self._stack = ExitStack()
        self._held: av.packet.Packet | None = None
        self._resampler: Resampler | None = None
        self._ended = False
        self.packet_count = 0
        """Packets written so far."""
        self.end = Fraction(0)
        """Second of the output at which they end."""
        self.longest = Fraction(0)
        """Seconds that the longest packet lasts: half of it may be too much or too little where packets are copied."""
        self.warnings: list[str] = []
        try:
            container = self._stack.enter_context(opened(source.path, ReadSettings()))
            stream = chosen_sound(container, plan.track)
            assert stream is not None
            self._input = stream
            self._time_base = Fraction(stream.time_base or 1)
            self._packets = self._demuxed(container)
            self._stream = self._copied() if plan.copied else self._encoded(plan, recipe, settings)
            if language := known_language(stream):
                self._stream.metadata["language"] = language
        except BaseException:
            self._stack.close()
            raise

    def advance(self, until: Fraction | None) -> None:
        """Write all packets that end by `until`; None: all there are."""
        while not self._ended and (packet := self._next()) is not None:
            start, end = self._span(packet)
            if until is not None and end > until:
                self._held = packet
                return
            if not self._is_before(start, end):
                self._write(packet)

    def finish(self, until: Fraction | None) -> None:
        """Write the sound up to `until` and flush the encoder."""
        self.advance(until)
        self._until = until
        while not self._ended and (packet := self._next()) is not None:
            assert until is not None  # otherwise nothing is left
            start, end = self._span(packet)
            if start >= until:
                break
            # a packet that is copied is there where most of it belongs to the part; others are cut when decoded
            if not self._is_before(start, end) and (self._resampler is not None or start + end <= 2 * until):
                self._write(packet)
        if self._resampler is None:
            return
        try:
            if not self._ended:
                for frame in self._decoded(None):
                    self._encode(frame)
            for frame in self._resampler.flush():
                self._encode(frame)
            self._encode(None)
        except BROKEN as error:
            self._end(error)

    def close(self) -> None:
        """Close the file that the sound is read from."""
        self._stack.close()

    def _copied(self) -> av.audio.stream.AudioStream:
        return self._output.add_stream_from_template(self._input)

    def _encoded(
        self, plan: SoundPlan, recipe: Recipe, settings: WriteSettings
    ) -> av.audio.stream.AudioStream:
        assert recipe.audio_encoder is not None
        stream = self._output.add_stream(
            recipe.audio_encoder,
            rate=plan.rate,
            layout=plan.layout,
            bit_rate=settings.audio_bit_rate * max(2, plan.channels) // 2,
        )
        assert isinstance(stream, av.audio.stream.AudioStream)
        stream.codec_context.open()  # only an open encoder tells how many samples it takes at once
        self._resampler = Resampler(stream.codec_context)
        return stream

    def _demuxed(self, container: av.container.InputContainer) -> Iterator[av.packet.Packet]:
        pictures = video_stream(container, self._source.path)
        clock = Clock(container)
        mended = SoundClock(clock)
        try:
            for packet in demuxed(container, self._input, pictures):
                if packet.stream is pictures:
                    clock.mend(packet)
                elif packet.size and packet.pts is not None and not self._is_cut_away(packet):
                    yield from mended.push(packet)
            yield from mended.flush()
        except av.error.FFmpegError as error:
            self._warn(error)

    def _span(self, packet: av.packet.Packet) -> tuple[Fraction, Fraction]:
        """Seconds of the source at which a packet begins and ends."""
        assert packet.pts is not None  # `_demuxed` leaves others out
        start = packet.pts * self._time_base
        return start, start + max(0, packet.duration or 0) * self._time_base

    def _is_before(self, start: Fraction, end: Fraction) -> bool:
        """Whether a packet does not belong to the part because it comes before it."""
        if self._begin is None:
            return False
        if self._resampler is not None:
            return end <= self._begin - RUN_UP
        if self._output.format.name in CUTTING:
            return 2 * end - start <= self._begin  # one packet more, which decoders need to run up
        return start + end < 2 * self._begin

    def _is_cut_away(self, packet: av.packet.Packet) -> bool:
        """Whether an edit list leaves a packet out that a container without one would let be heard; the one before the
        first is kept, which decoders need to run up.
        """
        if not packet.is_discard or self._output.format.name in CUTTING:
            return False
        start, end = self._span(packet)
        return 2 * end - start <= self._origin or start > self._origin

    def _next(self) -> av.packet.Packet | None:
        held, self._held = self._held, None
        return held or next(self._packets, None)

    def _write(self, packet: av.packet.Packet) -> None:
        start, end = self._span(packet)
        self.longest = max(self.longest, end - start)
        if self._resampler is not None:
            try:
                frames = self._decoded(packet)
            except BROKEN as error:
                self._warn(error)
                return
            try:
                for frame in frames:
                    self._encode(frame)
            except BROKEN as error:
                self._end(error)
            return
        assert packet.pts is not None
        # AVI counts whole packets, too coarse to move sound by
        unit = min(self._time_base, Fraction(1, self._input.sample_rate or 1))
        times = packet.pts, packet.pts if packet.dts is None else packet.dts
        packet.pts, packet.dts = (round((time * self._time_base - self._origin) / unit) for time in times)
        packet.duration = round((end - start) / unit)
        packet.time_base = unit
        packet.stream = self._stream
        try:
            self._mux(packet)
        except BROKEN as error:
            self._end(error)

    def _decoded(self, packet: av.packet.Packet | None) -> Iterator[av.audio.frame.AudioFrame]:
        """Resampled sound of a packet; None flushes the decoder."""
        assert self._resampler is not None
        for decoded in self._input.codec_context.decode(packet):
            frame = self._inside(decoded)
            if frame is None:
                continue
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._origin / frame.time_base)
            yield from self._resampler.push(frame)

    def _inside(self, frame: av.audio.frame.AudioFrame) -> av.audio.frame.AudioFrame | None:
        """What of decoded sound belongs to the part of the clip; None where nothing does."""
        if frame.pts is None or not frame.time_base:
            return frame
        start, rate, first, last = frame.pts * frame.time_base, frame.sample_rate, 0, frame.samples
        frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
        if self._begin is not None:
            first = max(first, round((self._begin - start) * rate))
        if self._until is not None:
            last = min(last, round((self._until - start) * rate))
        if first >= last:
            return None
        return frame if last - first == frame.samples else part_of(frame, first, last)

    def _encode(self, frame: "av.audio.frame.AudioFrame | None") -> None:
        for packet in self._stream.encode(frame):
            self._mux(packet)

    def _mux(self, packet: av.packet.Packet) -> None:
        if packet.pts is not None and packet.time_base:
            # before muxing, which changes times to the output's own units
            self.end = max(self.end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        self._output.mux(packet)
        self.packet_count += 1

    def _end(self, error: BaseException) -> None:
        if self._strict:
            raise error
        self._ended = True
        self._warn(error, "cannot be written to its end")

    def _warn(self, error: BaseException, what: str = "is damaged") -> None:
        if not self.warnings:
            reason = reason_of(error)
            self.warnings.append(
                f"{shown(self._source.path)}: the sound {what} ({reason}); what could be read of it is kept."
            )
