"""The sound of a source, carried over to a result: packets as they are, or encoded anew where the container refuses."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction

import av.audio.resampler
import av.audio.stream
import av.container
import av.error
import av.packet

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video.encoders import Recipe, WriteSettings
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.probe import audio_stream
from evenreel.video.source import demuxed, opened

log = logging.getLogger(__name__)


class AudioTrack:
    """Feeds the sound of `source` into `output`, in step with the pictures.

    Times are exact seconds on the source's clock; `origin` is the one that becomes 0 in the output. Damage in the sound
    ends it with a logged warning: pictures that took hours are not thrown away for it.
    """

    def __init__(
        self,
        source: VideoInfo,
        output: av.container.OutputContainer,
        recipe: Recipe,
        settings: WriteSettings,
        *,
        origin: Fraction,
        begin: Fraction | None,
    ) -> None:
        self._source = source
        self._output = output
        self._origin = origin
        self._begin = begin
        self._stack = ExitStack()
        self._held: av.packet.Packet | None = None
        self._resampler: av.audio.resampler.AudioResampler | None = None
        container = self._stack.enter_context(opened(source.path, ReadSettings()))
        stream = audio_stream(container)
        assert stream is not None
        self._input = stream
        self._time_base = Fraction(stream.time_base or 1)
        self._packets = self._demuxed(container)
        self._stream = self._add_stream(recipe, settings)

    @property
    def copied(self) -> bool:
        """Whether packets are passed on as they are."""
        return self._resampler is None

    def advance(self, until: Fraction | None) -> None:
        """Write all sound that starts before `until`; None: all there is."""
        while (packet := self._next()) is not None:
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
        if self._resampler is not None:
            for frame in self._resampler.resample(None):
                self._encode(frame)
            self._encode(None)

    def close(self) -> None:
        self._stack.close()

    def _add_stream(self, recipe: Recipe, settings: WriteSettings) -> av.audio.stream.AudioStream:
        name = self._source.audio_codec
        if recipe.audio_copied is None or name in recipe.audio_copied:
            try:
                return self._output.add_stream_from_template(self._input)
            except ValueError:
                pass  # this container takes many codecs, not this one
        assert recipe.audio_encoder is not None
        rate = (
            48000 if recipe.audio_encoder == "libopus" else min(self._input.codec_context.sample_rate, 48000)
        )
        layout = "mono" if self._input.codec_context.channels == 1 else "stereo"
        stream = self._output.add_stream(
            recipe.audio_encoder, rate=rate, layout=layout, bit_rate=settings.audio_bit_rate
        )
        assert isinstance(stream, av.audio.stream.AudioStream)
        stream.codec_context.open()  # only an open encoder tells how many samples it takes at once
        self._resampler = av.audio.resampler.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        return stream

    def _demuxed(self, container: av.container.InputContainer) -> Iterator[av.packet.Packet]:
        try:
            for packet in demuxed(container, self._input):
                if packet.size and packet.pts is not None:
                    yield packet
        except av.error.FFmpegError as error:
            self._warn(error)

    def _next(self) -> av.packet.Packet | None:
        held, self._held = self._held, None
        return held or next(self._packets, None)

    def _write(self, packet: av.packet.Packet) -> None:
        if self._resampler is None:
            shift = round(self._origin / self._time_base)
            assert packet.pts is not None
            packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            packet.stream = self._stream
            self._output.mux(packet)
            return
        try:
            frames = self._input.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self._warn(error)
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._origin / frame.time_base)
            for resampled in self._resampler.resample(frame):
                self._encode(resampled)

    def _encode(self, frame: "av.audio.frame.AudioFrame | None") -> None:
        self._output.mux(self._stream.encode(frame))

    def _warn(self, error: BaseException) -> None:
        log.warning(
            "%s: the sound is damaged (%s); what could be read of it is kept.",
            shown(self._source.path),
            error,
        )


def audio_track(
    source: VideoInfo | None,
    output: av.container.OutputContainer,
    recipe: Recipe,
    settings: WriteSettings,
    *,
    origin: Fraction,
    begin: Fraction | None,
) -> AudioTrack | None:
    """The track to feed, or None where the source has no sound that can be read or the container takes none."""
    if source is None or not source.has_audio or source.audio_codec is None or recipe.audio_encoder is None:
        return None
    try:
        return AudioTrack(source, output, recipe, settings, origin=origin, begin=begin)
    except ClipError as error:
        log.warning("No sound is carried over: %s", error)
        return None
