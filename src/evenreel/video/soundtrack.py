"""Sound that was made here, added to a clip that has none."""

from fractions import Fraction
from pathlib import Path

import av
import av.audio.resampler
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from jaxtyping import Float32

from evenreel.files import unwritable, write_atomically
from evenreel.video.info import ReadSettings
from evenreel.video.source import opened
from evenreel.video.streams import video_stream

Samples = Float32[np.ndarray, " samples"]
"""Sound pressure in [-1, 1], one channel."""


def add_sound(path: Path, samples: Samples, rate: int) -> None:
    """Encode `samples` as AAC beside the pictures of a clip, which are copied; the file is replaced in one step.

    Raises: ClipError where the clip cannot be read, OutputError where it cannot be written.
    """
    try:
        write_atomically(path, lambda aside: _copy(path, aside, samples, rate))
    except av.error.FFmpegError as error:
        raise unwritable(path, error) from error


def _copy(path: Path, target: Path, samples: Samples, rate: int) -> None:
    with opened(path, ReadSettings()) as source, av.open(str(target), "w") as output:
        pictures = video_stream(source, path)
        copied = output.add_stream_from_template(pictures)
        sound = output.add_stream("aac", rate=rate, layout="mono")
        assert isinstance(sound, AudioStream)
        sound.codec_context.open()  # only an open encoder tells how many samples it takes at once
        for packet in source.demux(pictures):
            if packet.size:
                packet.stream = copied
                output.mux(packet)
        _encode(output, sound, samples, rate)


def _encode(output: OutputContainer, stream: AudioStream, samples: Samples, rate: int) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
    resampler = av.audio.resampler.AudioResampler(
        format=stream.codec_context.format,
        layout="mono",
        rate=rate,
        frame_size=stream.codec_context.frame_size,
    )
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))
