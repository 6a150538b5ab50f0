"""Small clips made on the spot, each with the one property that a test is about."""

from collections.abc import Sequence
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
    muxing: dict[str, str] | None = None,
) -> Path:
    """Encode pictures (uint8 RGB, RGBA where they have 4 channels, uint16 for deep colour) into a file."""
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
            sound = container.add_stream(audio, rate=AAC_RATE, layout="stereo")
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
            _write_tone(container, sound, seconds, audio_start)
    return path


def _write_tone(container, stream, seconds: float, start: Fraction) -> None:
    count = round(seconds * AAC_RATE)
    tone = np.sin(np.arange(count) * 2 * np.pi * 440 / AAC_RATE).astype(np.float32) * 0.3
    resampler = av.AudioResampler(
        format=stream.codec_context.format,
        layout="stereo",
        rate=AAC_RATE,
        frame_size=stream.frame_size or 1024,
    )
    for at in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(
            np.stack([tone[at : at + 1024]] * 2), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.time_base = AAC_RATE, Fraction(1, AAC_RATE)
        frame.pts = at + round(start * AAC_RATE)
        for resampled in resampler.resample(frame):
            container.mux(stream.encode(resampled))
    for resampled in resampler.resample(None):
        container.mux(stream.encode(resampled))
    container.mux(stream.encode(None))


def audio_packets(path: Path) -> list[bytes]:
    """The payloads of all packets of sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def psnr(one, other) -> float:
    """Decibels between two uint8 arrays or tensors of one shape."""
    difference = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    return float(10 * np.log10(255**2 / max(1e-9, (difference**2).mean())))
