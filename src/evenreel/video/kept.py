"""What a result keeps of its source beside pictures and sound: title, date, place, chapters, timecode."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.container
import av.video.stream

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video.encoders import muxer
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.source import opened
from evenreel.video.streams import known_language

TECHNICAL = re.compile(
    r"(major_brand|minor_version|compatible_brands|encoder|encoded_by|software|handler_name|vendor_id|duration|"
    r"creation_time_.*|_statistics.*|number_of_.*|bps|timecode|.*-eng|com\.android\..*|"
    r"(generation_|product_)?uid|.*_umid|operational_pattern_ul|product_.*|company_name|application_platform|"
    r"toolkit_version.*|modification_date|wm/.*|wmfsdk.*|deviceconformancetemplate|isvbr)",
    re.IGNORECASE,
)
"""Names of metadata that speak of the file, not of what it shows."""
APPLE = "com.apple.quicktime."
APPLE_NAMES = {"location.iso6709": "location", "creationdate": "date"}
"""Names that iPhones use, beside those that are the usual ones with Apple's prefix."""
POINTING = ("mp4", "mov")
"""FFmpeg's names of muxers in which streams point to the titles of chapters."""
CHAPTER_UNIT = Fraction(1, 1000)


@dataclass(frozen=True)
class Kept:
    """Read from a source, to be written into a result."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[tuple[Fraction, Fraction, Mapping[str, str]], ...] = ()
    """Start and end in seconds on the source's clock, and what is known of each."""
    timecode: str | None = None
    """Of the first frame."""
    language: str = ""
    """Of the sound, as the source writes it (`deu`); the sound's track itself takes it along."""

    def write(
        self,
        container: av.container.OutputContainer,
        stream: av.video.stream.VideoStream,
        origin: Fraction,
        until: Fraction | None,
        *,
        sound: bool,
    ) -> None:
        """Put it into an output whose second 0 is second `origin` of the source, and that ends at `until`; `sound` says
        whether it gets a sound track.
        """
        container.metadata.update(self.metadata)
        chapters = []
        for start, end, metadata in self.chapters:
            start, end = max(start, origin), end if until is None else min(end, until)
            if end > start:
                chapters.append(_chapter(len(chapters) + 1, start - origin, end - origin, metadata))
        container.set_chapters(chapters)
        # FFmpeg lets the pictures of MP4 and MOV point either to a timecode or to the titles of chapters; with a sound
        # track, that one points to the titles. Titles that nothing points to are read as subtitles.
        if self.timecode is not None and (sound or not chapters or container.format.name not in POINTING):
            stream.metadata["timecode"] = self.timecode


def read_kept(info: VideoInfo, *, from_start: bool, sound_track: int | None = None) -> Kept:
    """Return what a source has to keep; nothing for images. A timecode only where the result starts where the source
    does; the language is that of `sound_track`.
    """
    if info.time_base is None or info.container in ("", "images", "animation"):
        return Kept()
    spoken = [t.language for t in info.tracks if t.kind == "audio" and t.number == sound_track]
    try:
        with opened(info.path, ReadSettings()) as container:
            chapters = tuple(
                (c["start"] * unit, c["end"] * unit, dict(c["metadata"]))
                for c in container.chapters()
                if (unit := c["time_base"])
            )
            codes = _timecodes(container)
            timecode = codes[0] if codes and from_start else None
            return Kept(_named(container.metadata), chapters, timecode, "".join(spoken))
    except ClipError:
        return Kept()  # whoever reads the pictures says what is wrong


def not_carried(info: VideoInfo, sound_track: int | None) -> Iterable[str]:
    """Yield one sentence on the streams that are left behind, where there are some; `sound_track` is the one that is
    not.
    """
    left = []
    sounds = sum(track.kind == "audio" for track in info.tracks)
    if sound_track is not None and sounds > 1:
        left.append(f"{sounds - 1} other sound track{'s' if sounds > 2 else ''}")
    texts = sum(track.kind == "subtitle" and not track.holds for track in info.tracks)
    if texts:
        left.append(f"{texts} subtitle track{'s' if texts > 1 else ''}")
    if left:
        yield f"{shown(info.path)}: not carried over: {', '.join(left)}."


def lost_metadata(kept: Kept, path: Path, final: Path) -> Iterable[str]:
    """Yield one sentence on what the kind of file at `path`, to be called `final`, has no place for."""
    if kept == Kept():
        return
    with opened(path, ReadSettings()) as container:
        there = {name.lower() for name in container.metadata}
        lost = [name for name in kept.metadata if name.lower() not in there]
        if kept.chapters and not container.chapters():
            lost.append("chapters")
        if kept.timecode is not None and not _timecodes(container):
            beside = kept.chapters and muxer(final) in POINTING
            lost.append("timecode beside chapters without sound" if beside else "timecode")
        sounds = container.streams.audio
        if kept.language and sounds and not any(known_language(sound) for sound in sounds):
            lost.append(f"the sound's language ({kept.language})")
    if lost:
        yield f"{shown(final)}: {final.suffix} has no place for {', '.join(sorted(lost))} of the source."


def _timecodes(container: av.container.InputContainer) -> list[str]:
    return [
        value
        for stream in container.streams
        for name, value in stream.metadata.items()
        if name.lower() == "timecode"
    ]


def _named(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata under the names that FFmpeg's muxers know."""
    found: dict[str, str] = {}
    for name, value in metadata.items():
        if TECHNICAL.fullmatch(name):
            continue
        usual = name.lower()
        if usual.startswith(APPLE):
            usual = usual.removeprefix(APPLE)
            usual = APPLE_NAMES.get(usual, usual)
            if "." in usual:
                continue  # what only Apple's programs read
        if value and usual not in found:
            found[usual] = value
    return found


def _chapter(number: int, start: Fraction, end: Fraction, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": number,
        "start": round(start / CHAPTER_UNIT),
        "end": round(end / CHAPTER_UNIT),
        "time_base": CHAPTER_UNIT,
        "metadata": metadata,
    }
