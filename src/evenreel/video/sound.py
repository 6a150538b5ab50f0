"""What a result can carry of its source's sound, found before any picture is made.

Each way is rehearsed: the sound is written, with the muxer of the result, to nowhere. What succeeds there succeeds
later, and what fails there costs nothing.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.audio.stream
import av.container
from av.codec import Codec

from evenreel.errors import ClipError, OutputError, SettingsError, argument
from evenreel.files import shown
from evenreel.video.audio import BROKEN, CUTTING, LAYOUTS, MOST_RATE, SYNC, AudioTrack, SoundPlan
from evenreel.video.encoders import Recipe, WriteSettings, muxer
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.source import opened, reason_of
from evenreel.video.streams import chosen_sound

REHEARSED = Fraction(30)
"""Seconds of sound that are encoded to see whether it can be."""
ALL = 0, None
"""Frames of a whole clip."""


class _Nowhere:
    """A file that keeps nothing of what is written to it."""

    def __init__(self) -> None:
        self._at = self._size = 0

    def write(self, data: bytes) -> int:
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at


def plan_sound(
    source: VideoInfo | None,
    target: Path,
    recipe: Recipe | None,
    settings: WriteSettings,
    *,
    frames: tuple[int, int | None] = ALL,
) -> tuple[SoundPlan | None, tuple[str, ...]]:
    """Return how the sound of `source` goes into `target`, and what to tell people of it.

    Copied where the result can hold it as it is, else encoded again, else left out. `frames` are the numbers
    of those that are written, as START, END: the sound of a part is only copied where its packets are short enough to
    begin and end with the pictures, within SYNC. Raises SettingsError for a track
    that the source does not have.
    """
    number = settings.sound_track
    if source is None or settings.sound == "none":
        return None, ()
    count = sum(track.kind == "audio" for track in source.tracks)
    if number is not None and number > count:
        held = f"has {count} sound track{'' if count == 1 else 's'}" if count else "has no sound"
        raise SettingsError(
            f"{shown(source.path)} {held} and {argument('sound_track')} {number} was asked for; "
            "`evenreel info` lists them."
        )
    if not count:
        return None, ()
    if recipe is None or recipe.audio_encoder is None:
        kind = "a folder of PNGs" if recipe is None else target.suffix
        return None, (f"{shown(target)}: {kind} holds no sound, so that of the source is left out.",)
    try:
        with opened(source.path, ReadSettings()) as container:
            stream = chosen_sound(container, number)
            assert stream is not None
            plans = list(_ways(stream, recipe, settings))
            channels = stream.codec_context.layout.nb_channels if stream.codec_context is not None else 0
    except ClipError as error:
        return None, (f"No sound is carried over: {error}",)
    reason = "its codec is not known here"
    for plan in plans:
        try:
            _rehearse(source, target, plan, recipe, settings, frames)
        except (*BROKEN, ClipError, OutputError) as error:
            reason = reason_of(error)
            continue
        if plan.copied or plan.channels == channels:
            return plan, ()
        fewer = f"{shown(target)}: {channels} channels of sound become {plan.channels}, which is what can be encoded."
        return plan, (fewer,)
    name = source.audio_codec or "unknown codec"
    left_out = (
        f"{shown(source.path)}: the sound ({name}) is left out, for {target.suffix} cannot hold it as it is and it "
        f"cannot be encoded again ({reason})."
    )
    return None, (left_out,)


def _ways(
    stream: av.audio.stream.AudioStream, recipe: Recipe, settings: WriteSettings
) -> Iterator[SoundPlan]:
    """What to try, best first."""
    context = stream.codec_context
    if context is None:
        return
    track = 1 + stream.container.streams.audio.index(stream)
    name = context.codec.canonical_name
    if settings.sound == "copy" and (recipe.audio_copied is None or name in recipe.audio_copied):
        yield SoundPlan(track=track, codec=name, copied=True)
    assert recipe.audio_encoder is not None
    rate = _rate(context.sample_rate, Codec(recipe.audio_encoder, "w").audio_rates)
    channels = context.layout.nb_channels
    layouts = [context.layout.name, LAYOUTS.get(channels, "stereo"), "stereo"]
    for layout in dict.fromkeys(layouts):
        yield SoundPlan(
            track=track,
            codec=Codec(recipe.audio_encoder, "w").canonical_name,
            copied=False,
            rate=rate,
            layout=layout,
        )


def _rate(told: int, taken: list[int] | None) -> int:
    """The lowest rate that an encoder takes and that loses nothing of what is heard."""
    wanted = min(told, MOST_RATE)
    return min((rate for rate in taken or [wanted] if rate >= wanted), default=MOST_RATE)


def _rehearse(
    source: VideoInfo,
    target: Path,
    plan: SoundPlan,
    recipe: Recipe,
    settings: WriteSettings,
    frames: tuple[int, int | None],
) -> None:
    """Write the sound to nowhere. Raises what went wrong, which includes sound of which nothing can be read."""
    with _unseen(target) as output:
        track = AudioTrack(
            source, output, plan, recipe, settings, origin=source.start_time, begin=None, strict=True
        )
        with closing(track):
            track.finish(None if plan.copied else source.start_time + REHEARSED)
            if not track.packet_count:
                raise OutputError("nothing of it can be read")
            # of a packet that is cut through, half at most is too much or too little; one at the beginning, where
            # nothing can be hidden, sounds as a whole or not at all
            most = SYNC if frames[0] > 0 and muxer(target) not in CUTTING else 2 * SYNC
            if plan.copied and frames != ALL and not 0 < track.longest <= most:
                raise OutputError("its packets are too long to be cut")


@contextmanager
def _unseen(target: Path) -> Iterator[av.container.OutputContainer]:
    with av.open(_Nowhere(), "w", format=muxer(target)) as output:
        yield output
