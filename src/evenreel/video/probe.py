"""What a file or folder holds, from its header and first frame."""

import os
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import av.container
import av.error
import av.sidedata.sidedata
import av.video.frame
import av.video.stream
from PIL import Image

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video import images
from evenreel.video.complete import declared_end
from evenreel.video.decode import ORDERED_BY_DECODING, UNDECODABLE, decoder_for
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.orientation import Orientation
from evenreel.video.pixel_formats import has_alpha, is_hdr
from evenreel.video.source import demuxed, head_of, is_image, local_path, opened
from evenreel.video.streams import chosen_sound, has_alpha_beside, sane_rate, tracks, video_stream
from evenreel.video.structure import is_encrypted

DEFAULTS = ReadSettings()
MOST_INTERLACED = 31
"""Frames a second."""
PLACEHOLDER = 2**30
"""Frames from which on a count stands for not knowing."""


def probe(path: str | os.PathLike[str], settings: ReadSettings = DEFAULTS) -> VideoInfo:
    """Look at a video, an image or a folder of images: size, rate, duration, tracks.

    Examples:
        >>> info = evenreel.probe("in.mp4")
        >>> info.width, info.height, info.audio_codec
        (96, 64, 'aac')

    Raises: ClipError where it is none of these, or damaged.
    """
    source = local_path(path)
    if source.is_dir() or is_image(head_of(source)):
        return images.probe(source, settings)
    if is_encrypted(source):
        raise ClipError(
            f"{shown(source)} is encrypted (DRM), so only its seller's player can show it; give a copy that is not."
        )
    with opened(source, settings) as container:
        stream = video_stream(container, source)
        _check_size(source, stream.width, stream.height, settings)
        # rotation, fields and transfer function are only certain on a decoded frame
        first, start, skipped = _first_frame(container, stream, source, settings)
        _check_size(source, first.width, first.height, settings)
        orientation = orientation_of(first)
        aspect = pixel_aspect(stream)
        width, height = orientation.size(*square(first.width, first.height, aspect))
        _check_size(source, width, height, settings)
        time_base = stream.time_base
        rate = sane_rate(stream)
        # nobody records so many whole frames as two fields each: these are the fields, in packets of their own
        two_fields = first.interlaced_frame and rate is not None and rate > MOST_INTERLACED
        info = VideoInfo(
            path=source,
            width=width,
            height=height,
            frame_count=_declared_frames(stream, two_fields),
            average_rate=rate / 2 if rate is not None and two_fields else rate,
            duration=_declared_seconds(stream, start) or _file_duration(container),
            start_time=start,
            skipped=skipped,
            time_base=time_base,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            orientation=orientation,
            pixel_aspect=aspect,
            interlaced=first.interlaced_frame,
            hdr=is_hdr(first),
            has_alpha=has_alpha(first),
            alpha_beside=has_alpha_beside(container, stream),
            tracks=tracks(container),
            loop=_gif_loop(source) if container.format.name == "gif" else 0,
        )
        audio = chosen_sound(container, None)
        if audio is None:
            return info
        begins = (
            audio.start_time * audio.time_base if audio.start_time is not None and audio.time_base else None
        )
        return replace(
            info,
            has_audio=True,
            audio_codec=audio.codec_context.codec.canonical_name if audio.codec_context else None,
            audio_start=begins,
        )


def orientation_of(frame: av.video.frame.VideoFrame) -> Orientation:
    """Return how to set a frame upright, from the display matrix that travels with it."""
    # the stubs promise string keys, and only numbers and members of the enumeration work
    matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return Orientation() if matrix is None else Orientation.from_display_matrix(bytes(matrix))


def pixel_aspect(stream: av.video.stream.VideoStream) -> Fraction:
    """Return width over height of a stored pixel; 1 where the file gives none, or one beyond 10:1 (damage)."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 10) <= aspect <= 10 else Fraction(1)


def square(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size with square pixels of a stored size: rows stay; even widths stay even, as codecs want."""
    if aspect == 1:
        return width, height
    step = 2 if width % 2 == 0 else 1
    return max(step, round(width * aspect / step) * step), height


def _first_frame(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    path: Path,
    settings: ReadSettings,
) -> tuple[av.video.frame.VideoFrame, Fraction, Fraction]:
    """The first frame that decodes, the second at which it is shown, and the seconds of pictures skipped before it."""
    decoder = decoder_for(stream, settings)
    time_base = stream.time_base or Fraction(0)
    begins: int | None = None
    early: list[int] = []
    for packet in chain(demuxed(container, stream), [None]):
        if packet is not None and packet.size == 0:
            continue
        if packet is not None and begins is None:
            begins = packet.dts
        try:
            for frame in decoder.decode(packet):
                if container.format.name == ORDERED_BY_DECODING or frame.pts is None:
                    return frame, (begins or 0) * time_base, Fraction(0)
                before = [pts for pts in early if pts < frame.pts]
                skipped = frame.pts - min(before) if before else 0
                return frame, frame.pts * time_base, skipped * time_base
        except UNDECODABLE:
            pass  # `Decoder` tells where the damage is; here any frame will do
        if packet is not None and packet.pts is not None and not packet.is_discard:
            early.append(packet.pts)
    raise ClipError(f"{shown(path)} holds no frames that decode; download or export it again.")


def _gif_loop(path: Path) -> int:
    """How often a GIF starts again; -1, for never, is what one without a word on it means."""
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return int(image.info.get("loop", -1))
    except Exception:  # noqa: BLE001 - Pillow's decoders raise nearly anything on damaged files
        return 0


def _check_size(path: Path, width: int, height: int, settings: ReadSettings) -> None:
    if width * height > settings.max_pixels:
        raise ClipError(
            f"{shown(path)} has frames of {width} x {height} pixels and at most {settings.max_pixels} pixels "
            "are read; scale it down first."
        )


def _declared_frames(stream: av.video.stream.VideoStream, two_fields: bool) -> int | None:
    count = stream.frames
    if stream.container.format.name.startswith("mov") and len(stream.index_entries):
        count = sum(not entry.is_discard for entry in stream.index_entries)  # what an edit list leaves in
    if two_fields:
        count = -(-count // 2)
    return count if 0 < count < PLACEHOLDER else None


def _declared_seconds(stream: av.video.stream.VideoStream, start: Fraction) -> Fraction | None:
    end = declared_end(stream, start)
    return end - start if end is not None and end > start else None


def _file_duration(container: av.container.InputContainer) -> Fraction | None:
    return (
        Fraction(container.duration, av.time_base) if container.duration and container.duration > 0 else None
    )
