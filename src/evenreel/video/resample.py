"""Decoded sound as an encoder wants it: its rate, channels and frame size, on a time line without holes or overlaps."""

from collections.abc import Iterator
from fractions import Fraction

import av.audio.codeccontext
import av.audio.frame
import av.error
import av.filter

AudioFrame = av.audio.frame.AudioFrame
LARGEST_SLIP = Fraction(1, 50)
"""Seconds that sound may slip against its timestamps before silence is put in, or samples are taken out."""


class Resampler:
    """FFmpeg's aresample, made anew wherever the source changes its rate or channels in mid-stream."""

    def __init__(self, encoder: av.audio.codeccontext.AudioCodecContext) -> None:
        self._encoder = encoder
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[str, str, int] | None = None
        self._next: int | None = None

    def push(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Give decoded sound; take what is ready for the encoder."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._graph is not None and shape != self._shape:
            yield from self.flush()
        if self._graph is None:
            self._graph, self._shape = self._made(frame), shape
        self._graph.push(frame)
        yield from self._pull()

    def flush(self) -> Iterator[AudioFrame]:
        """Take what is still held."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None

    def _made(self, frame: AudioFrame) -> av.filter.Graph:
        encoder = self._encoder
        graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_abuffer(
            format=frame.format, layout=frame.layout, sample_rate=frame.sample_rate, time_base=frame.time_base
        )
        repair = f"async=1:min_hard_comp={float(LARGEST_SLIP)}"
        if self._next is not None:
            repair += f":first_pts={self._next}"  # where the sound before the change ended
        target = (
            f"sample_fmts={encoder.format.name}:sample_rates={encoder.sample_rate}"
            f":channel_layouts={encoder.layout.name}"
        )
        graph.link_nodes(
            source,
            graph.add("aresample", f"{encoder.sample_rate}:{repair}"),
            graph.add("aformat", target),
            graph.add("abuffersink"),
        )
        graph.configure()
        if encoder.frame_size:
            graph.set_audio_frame_size(encoder.frame_size)
        return graph

    def _pull(self) -> Iterator[AudioFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            if frame.pts is not None:
                self._next = frame.pts + frame.samples
            yield frame


def part_of(frame: AudioFrame, first: int, last: int) -> AudioFrame:
    """Return samples `first` to `last` (half-open) of decoded sound, with their time."""
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(
            format=frame.format, layout=frame.layout, sample_rate=frame.sample_rate, time_base=frame.time_base
        ),
        graph.add("atrim", f"start_sample={first}:end_sample={last}"),
        graph.add("abuffersink"),
    )
    graph.configure()
    graph.push(frame)
    graph.push(None)
    part = graph.pull()
    assert isinstance(part, AudioFrame)
    return part
