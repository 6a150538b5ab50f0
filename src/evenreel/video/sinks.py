"""Where frames go: into a container with sound beside them, or into numbered PNGs."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import av.container
import av.error
import av.packet
import av.video.stream
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from evenreel.errors import ClipError
from evenreel.types import Pixels
from evenreel.video.audio import BROKEN, AudioTrack, SoundPlan
from evenreel.video.colour import BT709, SCALING
from evenreel.video.encoders import Recipe, WriteSettings, muxer
from evenreel.video.info import VideoInfo
from evenreel.video.kept import Kept
from evenreel.video.timing import Timing

Picture = UInt8[Tensor, "height width 3"]
NOTHING = Kept()


@dataclass
class Written:
    """What a sink was given and passed on, to hold against what a reader finds."""

    times: list[Fraction] = field(default_factory=list)
    """Second at which each frame is shown, from the start of the result; empty where files hold no times."""
    end: Fraction = Fraction(0)
    """Second at which the last one stops being shown."""
    frame_count: int = 0
    sound_packets: int = 0
    sound_end: Fraction = Fraction(0)
    """Second at which the sound ends."""
    warnings: list[str] = field(default_factory=list)
    """What became known of the sound while it was written."""


@runtime_checkable
class Sink(Protocol):
    """Takes frames one window at a time."""

    written: Written

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        """Take frames, each shown from its time until the next; the last until `end_time`."""
        ...

    def finish(self) -> None:
        """Write all that is still held, and the end of the file."""
        ...

    def abandon(self) -> None:
        """Let go of all files, also halfway; harmless after `finish`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What a sink needs to carry a source's sound over."""

    source: VideoInfo
    plan: SoundPlan
    frames: tuple[int, int | None]
    """Numbers of the source's frames that are written, as START, END; END is None for all there are."""


class ContainerSink:
    """Encodes frames and carries sound along; one frame is held back until it is known how long it lasts."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        timing: Timing,
        recipe: Recipe,
        settings: WriteSettings,
        sound: Sound | None,
        kept: Kept = NOTHING,
        until: Fraction | None = None,
    ) -> None:
        """`kept` goes into the file as well; `until` is the second of the source at which a part of it ends."""
        self._kept, self._until = kept, until
        self._path, self._size = path, size
        self._timing = timing
        self._recipe = recipe
        self._settings = settings
        self._sound = sound
        self._audio: AudioTrack | None = None
        self.written = Written()
        self._container, self._stream = self._begun()
        self._held: tuple[Picture, Fraction] | None = None
        self._end: Fraction | None = None
        self._gap = 1 / timing.rate
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        """Take frames, each shown from its time until the next; the last until `end_time`."""
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
        """Write the frame that is held, the rest of the sound, and the end of the file."""
        assert self._held is not None
        end = self._held[1] + self._gap
        if self._end is not None and self._end > self._held[1]:
            end = self._end
        self._encode(*self._held, until=end)
        self._mux(self._stream.encode(None))
        if self._audio is not None:
            assert self._sound is not None
            self._audio.finish(None if self._sound.frames[1] is None else end)
            self.written.warnings += self._audio.warnings
            self.written.sound_packets = self._audio.packet_count
            self.written.sound_end = self._audio.end
        self._container.close()

    def abandon(self) -> None:
        """Let go of the file, also halfway."""
        if self._audio is not None:
            self._audio.close()
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    def _begun(self) -> tuple[av.container.OutputContainer, av.video.stream.VideoStream]:
        """The file with its streams and its header; without sound where that is what fails."""
        container, stream = self._opened(sound=self._sound is not None)
        if self._sound is None:
            return container, stream
        timing = self._timing
        begins = self._sound.frames[0] > 0 or self._sound.source.skipped > 0
        try:
            self._audio = AudioTrack(
                self._sound.source,
                container,
                self._sound.plan,
                self._recipe,
                self._settings,
                origin=timing.origin,
                begin=timing.origin if begins else None,
            )
            container.start_encoding()
        except (*BROKEN, ClipError) as error:
            self.written.warnings.append(f"No sound is carried over: {error}")
            self.abandon()
            self._audio = None
            container, stream = self._opened(sound=False)
        return container, stream

    def _opened(self, *, sound: bool) -> tuple[av.container.OutputContainer, av.video.stream.VideoStream]:
        recipe = self._recipe
        self._container = av.open(
            f"file:{self._path}", "w", format=muxer(self._path), container_options=recipe.container_options
        )
        stream = self._container.add_stream(
            recipe.codec,
            rate=self._timing.rate,
            options=dict(recipe.options),
            width=self._size[0],
            height=self._size[1],
            pix_fmt=recipe.pixel_format,
        )
        assert isinstance(stream, av.video.stream.VideoStream)
        context = stream.codec_context
        context.time_base = self._timing.time_base
        context.color_range = int(ColorRange.MPEG)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self._kept.write(self._container, stream, self._timing.origin, self._until, sound=sound)
        return self._container, stream

    def _encode(self, pixels: Picture, start: Fraction, until: Fraction) -> None:
        time_base = self._timing.time_base
        pts = self._timing.units(start, time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        lasts = max(1, self._timing.units(until, time_base) - pts)
        self._durations[pts] = lasts
        frame = av.VideoFrame.from_ndarray(pixels.cpu().numpy(), format="rgb24").reformat(
            format=self._recipe.pixel_format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
        )
        frame.pts, frame.time_base = pts, time_base
        self._mux(self._stream.encode(frame))
        self.written.times.append(pts * time_base)
        self.written.end = (pts + lasts) * time_base
        self.written.frame_count += 1

    def _mux(self, packets: Iterable[av.packet.Packet]) -> None:
        for packet in packets:
            # encoders drop durations; without them the last frame would last for no time at all
            packet.duration = (
                self._durations.pop(packet.pts, packet.duration) if packet.pts is not None else 0
            )
            self._container.mux(packet)


class FolderSink:
    """Writes 000000.png, 000001.png, ... into a folder; timestamps and sound have no place there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = Written()

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        """Write each frame as a PNG, numbered from 0."""
        for frame in frames:
            path = self._folder / f"{self.written.frame_count:06d}.png"
            Image.fromarray(frame.cpu().numpy()).save(path, format="PNG", compress_level=3)
            self.written.frame_count += 1

    def finish(self) -> None:
        """Do nothing: every file is already written."""

    def abandon(self) -> None:
        """Do nothing: no file is left open."""
