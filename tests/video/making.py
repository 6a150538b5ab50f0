"""Small clips made on the spot, each with the one property that a test is about."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

FAST = {"preset": "ultrafast", "crf": "10"}
CORNERS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "grey": (128, 128, 128)}
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
AAC_RATE = 48000


def corners(width: int = 64, height: int = 48) -> np.ndarray:
    """Red top left, green top right, blue bottom left, grey bottom right."""
    picture = np.empty((height, width, 3), np.uint8)
    w, h = width // 2, height // 2
    picture[:h, :w], picture[:h, w:] = CORNERS["red"], CORNERS["green"]
    picture[h:, :w], picture[h:, w:] = CORNERS["blue"], CORNERS["grey"]
    return picture


def moving(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """The corners with a white bar that moves right, so that every frame is different."""
    pictures = []
    for index in range(count):
        picture = corners(width, height)
        left = (index * 4) % max(1, width - 4)
        picture[height // 4 : height // 2, left : left + 4] = 255
        pictures.append(picture)
    return pictures


def smooth(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Gradients: what colour errors and lossy coding are measured on."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    pictures = []
    for index in range(count):
        red, green = 255 * x / max(1, width - 1), 255 * y / max(1, height - 1)
        blue = 128 + 120 * np.sin((x + y + 2 * index) / 15)
        pictures.append(np.stack([red, green, blue], -1).round().astype(np.uint8))
    return pictures


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: tuple[int, bool, bool] | None = None,
    aspect: Fraction | None = None,
    matrix: Colorspace | None = Colorspace.ITU709,
    full_range: bool = False,
    tags: dict[str, int] | None = None,
    audio: str | None = None,
    audio_seconds: float | None = None,
    audio_start: Fraction = Fraction(0),
    audio_rate: int = AAC_RATE,
    audio_layout: str = "stereo",
    audio_format: str | None = None,
    tone: np.ndarray | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """Encode pictures (uint8 RGB, RGBA where they have 4 channels, uint16 for deep colour) into a file.

    The sound is a tone of 440 Hz, or `tone`: samples in [-1, 1] at `audio_rate`, the same in all channels.
    """
    height, width = pictures[0].shape[:2]
    source = "rgb48le" if pictures[0].dtype == np.uint16 else {3: "rgb24", 4: "rgba"}[pictures[0].shape[2]]
    colour_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    with av.open(str(path), "w", container_options=muxing or {}) as container:
        defaults = FAST if codec == "libx264" else {}
        stream = container.add_stream(
            codec,
            rate=rate,
            width=width,
            height=height,
            pix_fmt=pixel_format,
            options={**defaults, **(options or {})},
        )
        context = stream.codec_context
        context.thread_count = 1
        if time_base is not None:
            context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if tags is None and matrix is not None:
            tags = {"colorspace": {Colorspace.ITU709: 1, Colorspace.ITU601: 6, Colorspace.BT2020: 9}[matrix]}
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if full_range:
            context.color_range = 2
        sound = None
        if audio is not None:
            sound = container.add_stream(audio, rate=audio_rate, layout=audio_layout)
            if audio_format is not None:
                sound.codec_context.format = audio_format
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
            frame = frame.reformat(
                width=width,
                height=height,
                format=pixel_format,
                dst_colorspace=matrix,
                dst_color_range=colour_range,
                interpolation=SCALING,
            )
            frame.pts = times[index] if times is not None else index
            if time_base is not None:
                frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            seconds = audio_seconds if audio_seconds is not None else float(len(pictures) / Fraction(rate))
            if tone is None:
                tone = sine(seconds, audio_rate)
            _write_tone(container, sound, tone, audio_rate, audio_layout, audio_start)
    return path


def sine(seconds: float, rate: int = AAC_RATE, pitch: float = 440) -> np.ndarray:
    """A tone, float32 in [-1, 1]."""
    return np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * pitch / rate).astype(np.float32) * 0.3


def _write_tone(container, stream, tone: np.ndarray, rate: int, layout: str, start: Fraction) -> None:
    channels = av.AudioLayout(layout).nb_channels
    resampler = av.AudioResampler(
        format=stream.codec_context.format,
        layout=layout,
        rate=rate,
        frame_size=stream.frame_size or 1024,
    )
    for at in range(0, len(tone), 1024):
        interleaved = tone[at : at + 1024].repeat(channels)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(interleaved), format="flt", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = at + round(start * rate)
        for resampled in resampler.resample(frame):
            container.mux(stream.encode(resampled))
    for resampled in resampler.resample(None):
        container.mux(stream.encode(resampled))
    container.mux(stream.encode(None))


def remuxed(source: Path, target: Path, change: Callable[[av.Packet], bool]) -> Path:
    """Copy a file's packets; `change` may alter each, and leaves it out where it returns False."""
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        copied = {stream.index: output.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.size and change(packet):
                packet.stream = copied[packet.stream_index]
                output.mux(packet)
    return target


def joined(target: Path, *parts: Path) -> Path:
    """Files one after the other, as people join broadcasts and camcorder clips."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def heard(path: Path) -> tuple[np.ndarray, int]:
    """The first channel of a file's sound on the time line of its pictures (from 0), and its sample rate."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate, end = frames[0].sample_rate, 0
    line = np.zeros(round(float(frames[-1].time + 1) * rate) + frames[-1].samples, np.float32)
    for frame in frames:
        array = frame.to_ndarray()
        samples = array[0] if frame.format.is_planar else array[0, :: frame.layout.nb_channels]
        if samples.dtype != np.float32:
            limits = np.iinfo(samples.dtype)
            samples = (samples - (limits.max + limits.min + 1) / 2) / (limits.max - limits.min) * 2
        at = round(float(frame.time) * rate)
        at = end if abs(at - end) < rate * 0.003 else at  # containers round times
        end = at + len(samples)
        part = samples[max(0, -at) :]
        line[max(0, at) : max(0, at) + len(part)] = part
    return line, rate


def audio_packets(path: Path) -> list[bytes]:
    """The payloads of all packets of sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def psnr(one, other) -> float:
    """Decibels between two uint8 arrays or tensors of one shape."""
    difference = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    return float(10 * np.log10(255**2 / max(1e-9, (difference**2).mean())))
