"""Clips as windows of upright RGB frames with exact timestamps, in constant memory; or whole, in memory."""

import logging
import os
from collections.abc import Collection, Iterator
from fractions import Fraction

import av.error
import av.video.frame
import torch
from jaxtyping import UInt8

from evenreel.errors import ClipError, SettingsError, argument
from evenreel.files import shown
from evenreel.types import Pixels
from evenreel.video import animation, picture_frames
from evenreel.video.clip import Clip
from evenreel.video.colour import to_rgb
from evenreel.video.decode import Decoder, TimedFrame
from evenreel.video.info import Leave, ReadSettings, VideoInfo
from evenreel.video.orientation import Orientation
from evenreel.video.picture_frames import Picture
from evenreel.video.probe import probe
from evenreel.video.source import reason_of

DEFAULTS = ReadSettings()
NONE = Leave()
log = logging.getLogger(__name__)
_TRANSPARENT = (
    "{name}: parts of it are transparent, and lie on a background, for results hold no transparency."
)
_ALPHA_BESIDE = (
    "{name}: its transparency, a stream of its own, is not read, so transparent parts show what lies beneath; save it "
    "as PNG or WebP to have them on white."
)
_RESIZED = (
    "{name}: pictures change their size at frame {at}, from {first[0]} x {first[1]} to {now[0]} x {now[1]}; all are "
    "scaled to the first."
)


class FrameStream:
    """Frames `start` to `end` of a file, as windows; iterating again reads the file again.

    `end_time` is the second at which the last frame that was read so far ends; `frame_count` is known after a whole
    iteration.
    """

    def __init__(
        self,
        info: VideoInfo,
        start: int,
        end: int | None,
        *,
        leave: Leave = NONE,
        window: int = 16,
        settings: ReadSettings = DEFAULTS,
    ) -> None:
        if window < 1:
            raise SettingsError(f"window must be at least 1 frame, got {window}.")
        _check_range(info, start, end)
        self.info = info
        self.start = start
        # reading to the very end also checks that nothing is missing, so the full range is left open
        self.end = None if end == info.frame_count else end
        self.leave = leave
        self.window = window
        self.settings = settings
        self.frame_count: int | None = None
        self.end_time: Fraction | None = None
        self.warnings: tuple[str, ...] = ()
        """What people should know of the frames that were read, one sentence each; logged as well."""
        self.damaged: tuple[int, ...] = ()
        """Numbers of the frames at which damage was found, where that is allowed."""

    @property
    def is_tail(self) -> bool:
        """Whether the range runs to the last frame of the source: its audio then plays to its own end."""
        return self.end is None

    @property
    def audio_range(self) -> tuple[int, int | None]:
        """What `VideoWriter` wants as `audio_range` to give an edit of these frames their sound."""
        return self.start, self.end

    def __iter__(self) -> Iterator[tuple[Pixels, tuple[Fraction, ...]]]:
        """Windows of (frames height width 3) uint8 RGB with each frame's start in seconds; the last may be short."""
        held: list[Picture] = []
        count = 0
        for picture in self._pictures():
            held.append(picture)
            count += 1
            self.end_time = picture.end
            if len(held) == self.window:
                yield _joined(held)
                held = []
        if held:
            yield _joined(held)
        self.frame_count = count

    def times(self) -> list[Fraction]:
        """Return the exact second at which each frame of the whole file is shown.

        Every frame of a video is decoded, so that damage and missing frames are found, but none is converted.
        """
        if self.info.is_images:
            return [index / self.settings.image_rate for index in range(len(self.info.images))]
        if self.info.container == animation.CONTAINER:
            return [
                picture.start for picture in picture_frames.animated(self.info, self.settings, self.leave)
            ]
        return [timed.start for timed in self._decoded()]

    def pick(self, numbers: Collection[int]) -> Iterator[tuple[int, Pixels]]:
        """Read single frames, (1, height, width, 3), by their numbers in the whole file, in order."""
        last = max(numbers)
        for index, picture in self._numbered(frozenset(numbers)):
            yield index, picture.pixels
            if index == last:
                return

    def _pictures(self) -> Iterator[Picture]:
        seen = 0
        for index, picture in self._numbered():
            seen = index + 1
            if picture.transparent:
                self._warn(_TRANSPARENT.format(name=shown(self.info.path)))
            yield picture
            if seen == self.end:
                return
        if seen <= self.start or self.end is not None:
            there = max(seen, self._seen)
            raise _out_of_range(self.info, self.start, self.end, there)

    def _numbered(self, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Picture]]:
        """Frames from `start` on (or those wanted), with their numbers; others are decoded but not converted."""
        self._seen = 0
        if self.info.is_images:
            self._seen = len(self.info.images)
            for index in range(self.start, self._seen) if wanted is None else sorted(wanted):
                yield index, picture_frames.still(self.info, self.settings, index)
            return
        if self.info.container == animation.CONTAINER:
            shown_frames = picture_frames.animated(self.info, self.settings, self.leave)
            for index, shown_frame in enumerate(shown_frames):
                self._seen = index + 1
                if index >= self.start if wanted is None else index in wanted:
                    yield index, shown_frame
            return
        if self.info.alpha_beside:
            self._warn(_ALPHA_BESIDE.format(name=shown(self.info.path)))
        frames = self._decoded()
        orientation = self.info.orientation
        # every frame takes the size of the first, also after a change of resolution mid-stream
        width, height = orientation.size(self.info.width, self.info.height)
        stored: tuple[int, int] | None = None
        for index, timed in enumerate(frames):
            self._seen = index + 1
            size = timed.frame.width, timed.frame.height
            stored = stored or size
            if index >= self.start if wanted is None else index in wanted:
                if size != stored:
                    self._warn(_RESIZED.format(name=shown(self.info.path), at=index, now=size, first=stored))
                pixels, transparent = self._rgb(index, timed.frame, width, height)
                pixels = upright(pixels, orientation).contiguous()
                yield index, Picture(pixels, timed.start, timed.end, transparent)

    def _decoded(self) -> Iterator[TimedFrame]:
        decoder = Decoder(self.info, self.settings, self.leave)
        try:
            yield from decoder.frames()
        finally:
            self.damaged = tuple(sorted(set(decoder.damaged)))
            self._warn(*decoder.warnings)

    def _warn(self, *warnings: str) -> None:
        """Log what is new; a clip is read several times, and of each kind of warning the first will do."""
        for warning in warnings:
            if warning not in self.warnings:
                self.warnings = (*self.warnings, warning)
                log.warning("%s", warning)

    def _rgb(
        self, index: int, frame: av.video.frame.VideoFrame, width: int, height: int
    ) -> tuple[Pixels, bool]:
        try:
            return to_rgb(frame, width, height, self.settings.background)
        except av.error.FFmpegError as error:
            raise ClipError(
                f"{shown(self.info.path)}: the colours of frame {index} are stored in a way that cannot be read "
                f"({reason_of(error)}); convert the clip to ordinary H.264 and try again."
            ) from error


def open_clip(
    path: str | os.PathLike[str],
    start: int = 0,
    end: int | None = None,
    *,
    allow_truncated: bool = False,
    allow_damaged: bool = False,
    window: int = 16,
    settings: ReadSettings = DEFAULTS,
) -> FrameStream:
    """Open frames `start` to `end` (half-open; None for all) of a video, an image or a folder of images.

    Raises ClipError for what cannot be read, and, when iterated, for damage (unless `allow_damaged`), missing frames
    (unless `allow_truncated` or `allow_damaged`) and a range beyond the last frame.
    """
    leave = Leave(truncated=allow_truncated or allow_damaged, damaged=allow_damaged)
    return FrameStream(probe(path, settings), start, end, leave=leave, window=window, settings=settings)


def load(
    path: str | os.PathLike[str],
    start: int = 0,
    end: int | None = None,
    *,
    allow_truncated: bool = False,
    allow_damaged: bool = False,
    settings: ReadSettings = DEFAULTS,
) -> Clip:
    """Read frames `start` to `end` (half-open; None for all) of a video or a folder of images into memory.

    Frames come upright, with square pixels, in 8-bit RGB, whatever the file held. A clip that is cut short or damaged
    is refused unless `allow_truncated` or `allow_damaged` takes what can be read of it.

    Examples:
        >>> evenreel.load("in.mp4").frames.shape
        torch.Size([7, 64, 96, 3])

    Raises: ClipError as `open_clip` does, and where the frames would take more than `settings.max_clip_bytes`.
    """
    stream = open_clip(
        path, start, end, allow_truncated=allow_truncated, allow_damaged=allow_damaged, settings=settings
    )
    info = stream.info
    windows: list[Pixels] = []
    timestamps: list[Fraction] = []
    most = max(1, settings.max_clip_bytes // (info.width * info.height * 3))
    for pixels, times in stream:
        windows.append(pixels)
        timestamps.extend(times)
        if len(timestamps) > most:
            raise ClipError(
                f"{shown(info.path)} has more than the {most} frames of {info.width} x {info.height} that fit "
                f"into {settings.max_clip_bytes} bytes of memory; choose fewer with {argument('frames')} START:END."
            )
    assert stream.end_time is not None
    return Clip(
        frames=torch.cat(windows),
        timestamps=tuple(timestamps),
        end_time=stream.end_time,
        info=info,
        start=start,
        end=start + len(timestamps),
        is_tail=stream.is_tail,
    )


def _joined(pictures: list[Picture]) -> tuple[Pixels, tuple[Fraction, ...]]:
    return torch.cat([p.pixels for p in pictures]), tuple(p.start for p in pictures)


def _check_range(info: VideoInfo, start: int, end: int | None) -> None:
    if start < 0 or (end is not None and end <= start):
        there = f" of {info.frame_count}" if info.frame_count is not None else ""
        raise ClipError(
            f"{shown(info.path)}: frames {_range(start, end)}{there} hold nothing; "
            "give START:END with 0 <= START < END."
        )
    count = info.frame_count
    if count is not None and (start >= count or (end is not None and end > count)):
        raise _out_of_range(info, start, end, count)


def _out_of_range(info: VideoInfo, start: int, end: int | None, count: int) -> ClipError:
    return ClipError(
        f"{shown(info.path)} has {count} frames and {_range(start, end)} was asked for; "
        f"choose {argument('frames')} START:END within 0:{count}."
    )


def _range(start: int, end: int | None) -> str:
    return f"{start}:{'' if end is None else end}"


def upright(
    pixels: Pixels, orientation: Orientation
) -> UInt8[torch.Tensor, "frames shown_height shown_width 3"]:
    """Set pictures upright; may return a view."""
    if orientation.transposed:
        pixels = pixels.transpose(1, 2)
    flips = [
        dim
        for dim, flip in ((2, orientation.flipped_left_right), (1, orientation.flipped_top_bottom))
        if flip
    ]
    return pixels.flip(flips) if flips else pixels
