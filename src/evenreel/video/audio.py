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
from evenreel.video.resample import Resampler
from evenreel.video.source import demuxed, opened, reason_of
from evenreel.video.streams import chosen_sound, video_stream

BROKEN = (av.error.FFmpegError, ValueError, OverflowError)
"""What PyAV raises for sound that cannot be decoded, encoded or carried by a container."""
MOST_RATE = 48_000
"""Samples a second to which sound is encoded again: more is not heard."""
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

    Times are exact seconds on the source's clock; `origin` is the one that becomes 0 in the output. Whatever is wrong
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
        self._stack = ExitStack()
        self._held: av.packet.Packet | None = None
        self._resampler: Resampler | None = None
        self._ended = False
        self.packet_count = 0
        """Packets written so far."""
        self.end = Fraction(0)
        """Second of the output at which they end."""
        self.warnings: list[str] = []
        try:
            container = self._stack.enter_context(opened(source.path, ReadSettings()))
            stream = chosen_sound(container, plan.track)
            assert stream is not None
            self._input = stream
            self._time_base = Fraction(stream.time_base or 1)
            self._packets = self._demuxed(container)
            self._stream = self._copied() if plan.copied else self._encoded(plan, recipe, settings)
        except BaseException:
            self._stack.close()
            raise

    def advance(self, until: Fraction | None) -> None:
        """Write all sound that starts before `until`; None: all there is."""
        while not self._ended and (packet := self._next()) is not None:
            assert packet.pts is not None  # `_demuxed` leaves others out
            start = packet.pts * self._time_base
            if until is not None and start >= until:
                self._held = packet
                return
            end = start + (packet.duration or 0) * self._time_base
            if self._begin is None or end > self._begin:
                self._write(packet)

    def finish(self, until: Fraction | None) -> None:
        """Write the sound up to `until` and flush the encoder."""
        self.advance(until)
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
                elif packet.size and packet.pts is not None:
                    yield from mended.push(packet)
            yield from mended.flush()
        except av.error.FFmpegError as error:
            self._warn(error)

    def _next(self) -> av.packet.Packet | None:
        held, self._held = self._held, None
        return held or next(self._packets, None)

    def _write(self, packet: av.packet.Packet) -> None:
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
        shift = round(self._origin / self._time_base)
        assert packet.pts is not None
        packet.pts -= shift
        packet.dts = packet.dts - shift if packet.dts is not None else None
        packet.stream = self._stream
        try:
            self._mux(packet)
        except BROKEN as error:
            self._end(error)

    def _decoded(self, packet: av.packet.Packet | None) -> Iterator[av.audio.frame.AudioFrame]:
        """Resampled sound of a packet; None flushes the decoder."""
        assert self._resampler is not None
        for frame in self._input.codec_context.decode(packet):
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._origin / frame.time_base)
            yield from self._resampler.push(frame)

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
