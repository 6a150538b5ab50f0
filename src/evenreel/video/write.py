"""Clips written to video files or folders of PNGs, whole or not at all."""

import logging
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av.error

from evenreel.errors import OutputError, argument
from evenreel.files import Aside, shown, unwritable
from evenreel.outputs import Outputs
from evenreel.types import Pixels
from evenreel.video.encoders import WriteSettings, recipe
from evenreel.video.gif import GifSink
from evenreel.video.info import VideoInfo
from evenreel.video.kept import Kept, lost_metadata, not_carried, read_kept
from evenreel.video.readback import read_back
from evenreel.video.sinks import ContainerSink, FolderSink, Sink, Sound
from evenreel.video.sound import plan_sound
from evenreel.video.timing import Timing

DEFAULTS = WriteSettings()
log = logging.getLogger(__name__)


class VideoWriter:
    """Writes frames to `path`: .mp4, .mov, .mkv, .webm, .gif, or without suffix to a folder of PNGs.

        with VideoWriter("out.mp4", clip.info.width, clip.info.height,
                         audio_from=clip.info, audio_range=clip.audio_range) as writer:
            writer.write(frames, clip.timestamps, clip.end_time)

    Nothing appears under the final name before the `with` block ends well; after an exception or an interrupt an
    earlier result is still there and no other trace is left. Raises OutputError where the result cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        rate: Fraction | int | None = None,
        audio_from: VideoInfo | None = None,
        audio_range: tuple[int, int | None] = (0, None),
        settings: WriteSettings = DEFAULTS,
        outputs: Outputs | None = None,
    ) -> None:
        """Check that the result can be written; nothing is created before the `with` block.

        `rate` (frames a second) times frames that are written without timestamps. `audio_from` is the clip whose sound
        is carried over, with its title, date, place, chapters and timecode. `audio_range` are the numbers of its frames
        that are written, as START, END: sound before the first and after the last of them is left out; (0, None) keeps
        every packet. What the result can carry of the sound is found here, so that it is known before the frames are
        made. `outputs` are the results of the job that this one belongs to, and takes its name with; None where it
        stands alone.
        """
        if "\0" in os.fspath(path) or not os.fspath(path):
            raise OutputError(f"{os.fspath(path)!r} is not a file name; choose another {argument('output')}.")
        if rate is not None and rate <= 0:
            raise OutputError(f"a rate of {rate} frames a second cannot be written; choose one above 0.")
        self.path = Path(path)
        self._recipe = recipe(self.path, width, height, settings)
        self._size = width, height
        self._rate = Fraction(rate) if rate is not None else None
        self._audio_from = audio_from
        self._audio_range = audio_range
        self._settings = settings
        self.sound, warnings = plan_sound(audio_from, self.path, self._recipe, settings, frames=audio_range)
        """What becomes of the sound of `audio_from`; None where there is none, or none is carried over."""
        self.warnings: list[str] = []
        """What people should know of the result, one sentence each; logged as well."""
        self._kept = Kept()
        if audio_from is not None:
            track = None if self.sound is None else self.sound.track
            self._kept = read_kept(audio_from, from_start=audio_range[0] == 0, sound_track=track)
            warnings = (*warnings, *not_carried(audio_from, track))
        if self._recipe is not None:
            warnings = (*warnings, *self._recipe.notes(self.path))
        self._warn(warnings)
        self._outputs = outputs
        self._own: Outputs | None = None
        self._aside: Aside | None = None
        self._sink: Sink | None = None
        self._finished = False
        self.frame_count = 0
        """Frames written so far."""
        self.held_count = 0
        """Frames that the result holds, known once it is finished: a GIF may show fewer than were written."""

    def __enter__(self) -> "VideoWriter":
        if self._outputs is None:
            self._own = Outputs(self.path).__enter__()
        try:
            self._aside, self._finished = Aside(self.path, folder=self._recipe is None), False
        except BaseException as error:
            if self._own is not None:
                self._own.__exit__(type(error), error, error.__traceback__)
            raise
        outputs = self._own or self._outputs
        assert outputs is not None
        outputs.add(self._aside)
        return self

    def write(
        self,
        frames: Pixels,
        timestamps: Sequence[Fraction] | None = None,
        end_time: Fraction | None = None,
    ) -> None:
        """Append frames, each shown from its timestamp (seconds on the source's clock) until the next.

        The very last is shown until `end_time`; by default for as long as the one before it.
        """
        assert self._aside is not None, "write only inside the `with` block"
        if (frames.shape[2], frames.shape[1]) != self._size:
            raise OutputError(
                f"{shown(self.path)} was opened for {self._size[0]} x {self._size[1]} pixels and got frames of "
                f"{frames.shape[2]} x {frames.shape[1]}; resize them first."
            )
        times = self._times(len(frames), timestamps)
        if not times:
            return
        try:
            if self._sink is None:
                self._sink = self._opened_sink(times)
            self._sink.write(frames, times, end_time)
        except (av.error.FFmpegError, OSError) as error:
            raise unwritable(self.path, error) from error
        self.frame_count += len(frames)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        except BaseException as failure:
            kind, error, trace = type(failure), failure, failure.__traceback__
            raise
        finally:
            if self._sink is not None:
                self._sink.abandon()
            self._aside = None
            if self._own is not None:
                self._own.__exit__(kind, error, trace)  # renames what was written, or discards it
                self._own = None

    def finish(self) -> Path:
        """Write all that is still to be written, and read it back; returns where the result lies until it is renamed.

        Raises OutputError where what was written cannot be read.
        """
        assert self._aside is not None, "finish only inside the `with` block"
        try:
            if self._sink is None:
                raise OutputError(f"{shown(self.path)} was given no frames; choose a range that holds some.")
            if not self._finished:
                self._sink.finish()
                self._finished = True
                self.held_count = self._sink.written.frame_count
                self._warn(self._sink.written.warnings)
                if self.held_count < self.frame_count:
                    self._warn([self._left_out()])
                read_back(self._aside.path, self.path, self._size, self._sink.written)
                if self._recipe is not None:
                    self._warn(lost_metadata(self._kept, self._aside.path, self.path))
        except (av.error.FFmpegError, OSError) as failure:
            raise unwritable(self.path, failure) from failure
        return self._aside.path

    def _left_out(self) -> str:
        return (
            f"{shown(self.path)}: a GIF shows at most 50 frames a second, so it holds {self.held_count} of the "
            f"{self.frame_count} frames; its length is that of the clip."
        )

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            if warning not in self.warnings:
                log.warning("%s", warning)
                self.warnings.append(warning)

    def _times(self, count: int, timestamps: Sequence[Fraction] | None) -> list[Fraction]:
        if timestamps is None:
            if self._rate is None:
                raise OutputError(
                    f"{shown(self.path)} needs timestamps for its frames, or a rate; give one of them."
                )
            return [(self.frame_count + index) / self._rate for index in range(count)]
        if len(timestamps) != count:
            raise OutputError(
                f"{shown(self.path)} got {count} frames and {len(timestamps)} timestamps; give one each."
            )
        return [Fraction(time) for time in timestamps]

    def _opened_sink(self, times: list[Fraction]) -> Sink:
        assert self._aside is not None
        if self._recipe is None:
            return FolderSink(self._aside.path)
        from_start = self._audio_range[0] == 0 and self.sound is not None
        timing = Timing.of(times, self._rate, self._audio_from, from_start=from_start)
        if self._recipe.codec == "gif":
            loop = 0 if self._audio_from is None else self._audio_from.loop
            return GifSink(self._aside.path, self._size, timing, loop)
        sound = None
        if self._audio_from is not None and self.sound is not None:
            sound = Sound(source=self._audio_from, plan=self.sound, frames=self._audio_range)
        return ContainerSink(
            self._aside.path,
            self._size,
            timing,
            self._recipe,
            self._settings,
            sound,
            self._kept,
            self._until(times[0]),
        )

    def _until(self, start: Fraction) -> Fraction | None:
        """About when the part of the source ends that is written; None for its end."""
        first, end = self._audio_range
        rate = None if self._audio_from is None else self._audio_from.average_rate
        return None if end is None or rate is None else start + (end - first) / rate
