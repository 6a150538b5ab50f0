"""Where frames go: into a container with sound beside them, or into numbered PNGs."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path

import av
import av.error
import av.filter
import av.packet
import av.video.frame
import av.video.stream
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from evenreel.types import Pixels
from evenreel.video.audio import audio_track
from evenreel.video.colour import BT709, SCALING
from evenreel.video.encoders import Recipe, WriteSettings
from evenreel.video.info import VideoInfo

Picture = UInt8[Tensor, "height width 3"]
FINEST = 1_000_000
"""Units of time to a second that containers are trusted with."""
FALLBACK = Fraction(1, 90_000)
PRIMING = Fraction(1, 10)
"""Seconds of sound before the first frame that are the codec's run-up rather than an offset to keep."""


@dataclass(frozen=True)
class Timing:
    """The clock of a result."""

    origin: Fraction
    """Second of the source's clock that becomes 0."""
    time_base: Fraction
    """Seconds to one unit; small enough for every timestamp to be exact, where a container's limits allow that."""
    rate: Fraction
    """Frames a second: the source's own where its frames keep to it, else on average over the first window."""
    first: Fraction = Fraction(0)
    """Second of the source's clock at which the first frame is shown."""
    tolerance: Fraction = Fraction(0)
    """Seconds that the source's clock is off an exact rate by rounding; 0 where times stay as they are."""

    @classmethod
    def of(
        cls, times: Sequence[Fraction], rate: Fraction | None, source: VideoInfo | None, *, from_start: bool
    ) -> "Timing":
        """The clock for frames that start like `times`; with `from_start`, sound ahead of the first frame is kept."""
        origin = times[0]
        if from_start and source is not None and source.audio_start is not None:
            ahead = origin - source.audio_start
            origin = source.audio_start if ahead > PRIMING else origin
        exact, tolerance = _exact_rate(times, source) if rate is None else (None, Fraction(0))
        rate = exact or rate
        units = lcm(*((time - origin).denominator for time in times))
        if exact is not None:
            units = lcm((times[0] - origin).denominator, (1 / exact).denominator)
        if source is not None and source.time_base is not None:
            finer = lcm(units, source.time_base.denominator)
            units = finer if finer <= FINEST else units
        if rate is None and len(times) > 1:
            rate = (len(times) - 1) / (times[-1] - times[0])
        if rate is None:
            rate = source.average_rate if source is not None and source.average_rate else Fraction(25)
        units = lcm(units, (1 / rate).denominator) if len(times) == 1 else units
        time_base = Fraction(1, units) if units <= FINEST else FALLBACK
        return cls(origin, time_base, rate.limit_denominator(65535), times[0], tolerance)

    def units(self, time: Fraction, time_base: Fraction) -> int:
        """A time in units of the result, on the grid of the exact rate where it lies near it."""
        near = self.first + round((time - self.first) * self.rate) / self.rate
        # twice: an end is the sum of two rounded numbers
        exact = near if abs(near - time) <= 2 * self.tolerance else time
        return round((exact - self.origin) / time_base)


def _exact_rate(times: Sequence[Fraction], source: VideoInfo | None) -> tuple[Fraction | None, Fraction]:
    """The declared rate and how far rounding moves times off it; (None, 0) where frames do not keep to it."""
    if source is None or source.average_rate is None or source.time_base is None:
        return None, Fraction(0)
    rate, tolerance = _standard(source.average_rate), min(source.time_base, Fraction(1, 1000))
    keeps = all(abs(times[0] + k / rate - time) <= tolerance for k, time in enumerate(times))
    return (rate, tolerance) if keeps and 8 * tolerance * rate <= 1 else (None, Fraction(0))


def _standard(rate: Fraction) -> Fraction:
    """The whole or NTSC rate that a declared one is a rounding of, else itself."""
    whole = max(1, round(rate))
    nearest = min(Fraction(whole), Fraction(whole * 1000, 1001), key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= rate / 2000 else rate


class ContainerSink:
    """Encodes frames and carries sound along; one frame is held back until it is known how long it lasts."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        timing: Timing,
        recipe: Recipe,
        settings: WriteSettings,
        *,
        audio_from: VideoInfo | None,
        audio_range: tuple[int, int | None],
    ) -> None:
        self._timing = timing
        self._recipe = recipe
        self._time_base = Fraction(1, 100) if recipe.codec == "gif" else timing.time_base
        # browsers slow frames shorter than 2 units of GIF time down to 10
        self._least = 2 if recipe.codec == "gif" else 1
        self._container = av.open(
            f"file:{path}", "w", format=_muxer(path), container_options=recipe.container_options
        )
        self._stream = self._add_video(size, recipe)
        self._palette = _palette_graph(size) if recipe.codec == "gif" else None
        self._trimmed = audio_range[1] is not None
        begin = timing.origin if audio_range[0] > 0 else None
        self._audio = audio_track(
            audio_from, self._container, recipe, settings, origin=timing.origin, begin=begin
        )
        self._held: tuple[Picture, Fraction] | None = None
        self._end: Fraction | None = None
        self._gap = 1 / timing.rate
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        """Encode frames; the last stays held until the next call or `finish`."""
        for frame, time in zip(frames, times, strict=True):
            if self._held is not None:
                if time > self._held[1]:
                    self._gap = time - self._held[1]
                self._encode(*self._held, until=time)
                if self._audio is not None:
                    self._audio.advance(time)
            # a copy: the caller may reuse its buffer
            self._held = (frame.clone(), time)
        self._end = end_time

    def finish(self) -> None:
        """Encode what is held, flush, and write the index."""
        assert self._held is not None
        end = self._held[1] + self._gap
        if self._end is not None and self._end > self._held[1]:
            end = self._end
        self._encode(*self._held, until=end)
        if self._palette is not None:
            self._palette.vpush(None)
            self._mux_palette_frames()
        self._mux(self._stream.encode(None))
        if self._audio is not None:
            self._audio.finish(end if self._trimmed else None)
        self._container.close()

    def abandon(self) -> None:
        """Let go of all files, also halfway; harmless after `finish`."""
        if self._audio is not None:
            self._audio.close()
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    def _add_video(self, size: tuple[int, int], recipe: Recipe) -> av.video.stream.VideoStream:
        stream = self._container.add_stream(
            recipe.codec,
            rate=self._timing.rate,
            options=dict(recipe.options),
            width=size[0],
            height=size[1],
            pix_fmt=recipe.pixel_format,
        )
        assert isinstance(stream, av.video.stream.VideoStream)
        context = stream.codec_context
        context.time_base = self._time_base
        if recipe.codec != "gif":
            context.color_range = int(ColorRange.MPEG)
            context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def _encode(self, pixels: Picture, start: Fraction, until: Fraction) -> None:
        pts = self._units(start)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + self._least)
        self._last_pts = pts
        self._durations[pts] = max(1, self._units(until) - pts)
        frame = av.VideoFrame.from_ndarray(pixels.cpu().numpy(), format="rgb24")
        if self._palette is None:
            frame = frame.reformat(
                format=self._recipe.pixel_format,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=SCALING,
                threads=1,
            )
        frame.pts, frame.time_base = pts, self._time_base
        if self._palette is None:
            self._mux(self._stream.encode(frame))
        else:
            self._palette.vpush(frame)
            self._mux_palette_frames()

    def _mux_palette_frames(self) -> None:
        assert self._palette is not None
        while True:
            try:
                frame = self._palette.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._mux(self._stream.encode(frame))

    def _mux(self, packets: Iterable[av.packet.Packet]) -> None:
        for packet in packets:
            # encoders drop durations; without them the last frame would last for no time at all
            packet.duration = (
                self._durations.pop(packet.pts, packet.duration) if packet.pts is not None else 0
            )
            self._container.mux(packet)

    def _units(self, time: Fraction) -> int:
        return self._timing.units(time, self._time_base)


class FolderSink:
    """Writes 000000.png, 000001.png, ... into a folder; timestamps and sound have no place there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        for frame in frames:
            path = self._folder / f"{self._count:06d}.png"
            Image.fromarray(frame.cpu().numpy()).save(path, format="PNG", compress_level=3)
            self._count += 1

    def finish(self) -> None:
        """Every file is already written."""

    def abandon(self) -> None:
        """No file is left open."""


def _muxer(path: Path) -> str:
    suffix = path.suffix.lower()
    return {".mkv": "matroska"}.get(suffix, suffix[1:])


def _palette_graph(size: tuple[int, int]) -> av.filter.Graph:
    """Gives each frame the 256 colours that suit it best, without waiting for the frames to come."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=size[0], height=size[1], format=av.VideoFormat("rgb24"), time_base=Fraction(1, 100)
    )
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
