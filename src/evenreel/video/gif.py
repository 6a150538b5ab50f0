"""Clips as GIFs: 256 colours a frame, times in hundredths of a second."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import av.video.stream
from jaxtyping import UInt8
from torch import Tensor

from evenreel.types import Pixels
from evenreel.video.sinks import Written
from evenreel.video.timing import Timing

Picture = UInt8[Tensor, "height width 3"]
UNIT = Fraction(1, 100)
"""Seconds in which GIFs count."""
SHORTEST = 2
"""Units that a frame lasts at least: browsers slow shorter ones down to 10."""


class GifSink:
    """Encodes frames; where they come faster than a GIF can show, some are left out and the length is kept."""

    def __init__(self, path: Path, size: tuple[int, int], timing: Timing, loop: int) -> None:
        """`loop`: how often a player starts again after the first time through; 0 for without end, -1 for never."""
        self._timing = timing
        self._container = av.open(f"file:{path}", "w", format="gif", options={"loop": str(loop)})
        stream = self._container.add_stream(
            "gif", rate=timing.rate, width=size[0], height=size[1], pix_fmt="pal8"
        )
        assert isinstance(stream, av.video.stream.VideoStream)
        stream.codec_context.time_base = UNIT
        self._stream = stream
        self._palette = _palette_graph(size)
        self._held: list[tuple[Picture, int]] = []
        """The last two frames: the very last is left out where nothing of the clip is left for it."""
        self._end: Fraction | None = None
        self._last: tuple[Fraction, Fraction] | None = None
        self._lasts: dict[int, int] = {}
        self.written = Written()

    def write(self, frames: Pixels, times: Sequence[Fraction], end_time: Fraction | None) -> None:
        """Take frames, each shown from its time until the next; the last until `end_time`."""
        for frame, time in zip(frames, times, strict=True):
            gap = time - self._last[0] if self._last is not None else 1 / self._timing.rate
            self._last = time, gap
            pts = self._timing.units(time, UNIT)
            if self._held and pts - self._held[-1][1] < SHORTEST:
                continue  # the frame before is still due
            if len(self._held) == 2:
                self._encode(*self._held.pop(0), until=self._held[-1][1])
            # a copy: the caller may reuse its buffer
            self._held.append((frame.clone(), pts))
        self._end = end_time

    def finish(self) -> None:
        """Write the frame that is held, and the end of the file."""
        assert self._last is not None
        last, gap = self._last
        end = self._end if self._end is not None and self._end > last else last + gap
        until = self._timing.units(end, UNIT)
        if len(self._held) == 2 and until - self._held[1][1] < SHORTEST:
            self._held.pop()
        for index, (frame, pts) in enumerate(self._held):
            ends = until if index + 1 == len(self._held) else self._held[index + 1][1]
            self._encode(frame, pts, until=max(ends, pts + SHORTEST))
        self._palette.vpush(None)
        self._pull()
        self._mux(None)
        self._container.close()

    def abandon(self) -> None:
        """Let go of the file, also halfway."""
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    def _encode(self, pixels: Picture, pts: int, until: int) -> None:
        frame = av.VideoFrame.from_ndarray(pixels.cpu().numpy(), format="rgb24")
        frame.pts, frame.time_base = pts, UNIT
        self._lasts[pts] = until - pts
        self._palette.vpush(frame)
        self._pull()
        self.written.times.append(pts * UNIT)
        self.written.end = until * UNIT
        self.written.frame_count += 1

    def _pull(self) -> None:
        while True:
            try:
                frame = self._palette.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._mux(frame)

    def _mux(self, frame: "av.video.frame.VideoFrame | None") -> None:
        for packet in self._stream.encode(frame):
            # encoders drop durations; without them the last frame would last for no time at all
            packet.duration = self._lasts.pop(packet.pts, packet.duration) if packet.pts is not None else 0
            self._container.mux(packet)


def _palette_graph(size: tuple[int, int]) -> av.filter.Graph:
    """Gives each frame the 256 colours that suit it best, without waiting for the frames to come."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=size[0], height=size[1], format=av.VideoFormat("rgb24"), time_base=UNIT)
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
