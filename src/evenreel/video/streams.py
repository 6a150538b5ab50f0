"""Which of a file's streams are shown and heard: those that players choose."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av.audio.stream
import av.container
import av.stream
import av.video.stream
from av.stream import Discard, Disposition

from evenreel.errors import ClipError
from evenreel.files import shown

MAX_RATE = 1000
"""Frames a second above which a declared rate is taken for a damaged header."""
NOT_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
"""Covers, preview thumbnails, and parts of another stream such as the tiles of a HEIC picture."""
NOT_THE_SOUND = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.descriptions
    | Disposition.dependent
)
"""Sound that is only played when somebody asks for it."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One stream of a file, for people to look at."""

    kind: str
    """`video`, `audio`, `subtitle`, `data` or `attachment`."""
    number: int
    """Its place among the streams of its kind, from 1."""
    codec: str | None
    """None where this FFmpeg does not know it."""
    detail: str = ""
    """Size, or sample rate and channels."""
    language: str = ""
    title: str = ""
    flags: tuple[str, ...] = ()
    """What the file says it is for: `default`, `comment`, `attached_pic`, ..."""
    used: bool = False
    """Whether it is the one whose pictures are edited, or whose sound is carried over unless another is asked for."""
    holds: str = ""
    """`chapters` or `timecode` where a stream holds nothing else; a result has these in a stream of its own."""


def tracks(container: av.container.InputContainer) -> tuple[Track, ...]:
    """Return all streams of a file, in its order."""
    used = {id(s) for s in (_best_pictures(container), chosen_sound(container, None)) if s is not None}
    counts: dict[str, int] = {}
    found = []
    for stream in container.streams:
        kind = stream.type or "unknown"
        counts[kind] = counts.get(kind, 0) + 1
        context = stream.codec_context
        found.append(
            Track(
                kind=kind,
                number=counts[kind],
                codec=context.codec.canonical_name if context is not None else None,
                detail=_detail(stream),
                language=known_language(stream),
                title=stream.metadata.get("title", ""),
                flags=tuple(flag.name for flag in Disposition if stream.disposition & flag and flag.name),
                used=id(stream) in used,
                holds=_holds(stream, container),
            )
        )
    return tuple(found)


def video_stream(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """Return the pictures that players show. Raises ClipError where there are none, or none that can be decoded.

    That is: no cover and no thumbnail, more than one picture where a stream has more, marked as default, and among
    those the largest.
    """
    stream = _best_pictures(container)
    if stream is None:
        if any(s.disposition & Disposition.dependent for s in container.streams.video):
            raise ClipError(
                f"{shown(path)} is a picture in tiles, which cannot be put together here; save it as PNG or JPEG."
            )
        kinds = sorted({stream.type for stream in container.streams if stream.type})
        held = f"holds only {' and '.join(kinds)}" if kinds else "holds no streams"
        raise ClipError(f"{shown(path)} {held}; give a file with pictures in it.")
    if stream.codec_context is None:
        raise ClipError(
            f"{shown(path)} uses a video codec that cannot be decoded here; convert it to H.264 and try again."
        )
    return stream


def has_alpha_beside(container: av.container.InputContainer, pictures: av.video.stream.VideoStream) -> bool:
    """Return whether transparency lies in a grey stream of its own, as AVIF has it."""
    context = pictures.codec_context
    return container.format.name.startswith("mov") and any(
        other is not pictures
        and (other.width, other.height, other.frames) == (context.width, context.height, pictures.frames)
        and (other.pix_fmt or "").startswith("gray")
        and not (context.pix_fmt or "").startswith("gray")
        for other in container.streams.video
        if other.codec_context is not None
    )


def chosen_sound(
    container: av.container.InputContainer, number: int | None
) -> av.audio.stream.AudioStream | None:
    """Return sound track `number` (from 1), or, for None, the one that players choose; None where there is none."""
    streams = container.streams.audio
    if number is not None:
        return streams[number - 1] if number <= len(streams) else None
    return max(streams, key=_sound_rank, default=None)


def known_language(stream: av.stream.Stream) -> str:
    """Return the language of a stream as its file writes it (`deu`), or "" where it names none."""
    language = stream.metadata.get("language", "")
    return "" if language == "und" else language


def sane_rate(stream: av.video.stream.VideoStream) -> Fraction | None:
    """Return the declared frame rate, or None where it makes no sense."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and 0 < rate <= MAX_RATE:
            return Fraction(rate)
    return None


def _best_pictures(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    streams = [s for s in container.streams.video if not s.disposition & NOT_PICTURES]
    moving = [s for s in streams if s.frames != 1]
    return max(moving or streams, key=_picture_rank, default=None)


def _picture_rank(stream: av.video.stream.VideoStream) -> tuple[bool, bool, int, int]:
    context = stream.codec_context
    area = context.width * context.height if context is not None else 0
    return context is not None, bool(stream.disposition & Disposition.default), area, -stream.index


def _sound_rank(stream: av.audio.stream.AudioStream) -> tuple[bool, bool, bool, int]:
    disposition = stream.disposition
    main = not disposition & NOT_THE_SOUND
    return stream.codec_context is not None, main, bool(disposition & Disposition.default), -stream.index


def _holds(stream: av.stream.Stream, container: av.container.InputContainer) -> str:
    if stream.type == "data":
        if "timecode" in {name.lower() for name in stream.metadata}:
            return "timecode"
        # FFmpeg's mark of the titles that an MP4's pictures or sound point to
        return "chapters" if (stream.discard, stream.name) == (Discard.all, "bin_data") else ""
    context = stream.codec_context
    if stream.type == "subtitle" and context is not None and context.codec.canonical_name == "mov_text":
        # the same without the mark: FFmpeg writes a timecode over what pictures point to
        count = len(container.chapters())
        coded = any("timecode" in other.metadata for other in container.streams if other.type == "data")
        return "chapters" if coded and 0 < count == stream.frames else ""
    return ""


def _detail(stream: av.stream.Stream) -> str:
    context = stream.codec_context
    if context is None:
        return ""
    if isinstance(stream, av.video.stream.VideoStream):
        rate = Fraction(stream.average_rate) if stream.average_rate else None
        return f"{stream.codec_context.width} x {stream.codec_context.height}" + (
            f", {float(rate):.6g} fps" if rate else ""
        )
    if isinstance(stream, av.audio.stream.AudioStream):
        return f"{stream.codec_context.sample_rate} Hz, {stream.codec_context.layout.name}"
    return ""
