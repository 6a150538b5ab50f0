"""Interlaced frames made whole, one for one, with FFmpeg's bwdif."""

from collections import deque
from collections.abc import Iterator

import av.error
import av.filter
import av.video.frame

VideoFrame = av.video.frame.VideoFrame


class Deinterlacer:
    """Passes progressive frames through untouched until the first interlaced one is seen.

    From then on frames go through the filter, which holds back one frame, leaves progressive ones alone and
    gives exactly one frame for each that it gets.
    """

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._times: deque[tuple[int | None, int]] = deque()

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Give one frame; take those that are ready."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape != self._shape:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._shape = _bwdif(frame), shape
        self._times.append((frame.pts, frame.duration))
        self._time_base, self._tags = frame.time_base, _tags_of(frame)
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[VideoFrame]:
        """Take the frames still held at the end of the stream."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # the filter counts in half units of time and forgets durations
            frame.pts, frame.duration = self._times.popleft()
            frame.time_base = self._time_base
            frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = self._tags
            yield frame


def _tags_of(frame: VideoFrame) -> tuple[int, int, int, int]:
    return frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries


def _bwdif(frame: VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph
