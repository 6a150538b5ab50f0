"""Where a clip is cut into scenes: as the settings say, or as its frames show."""

from fractions import Fraction

from evenreel.errors import SettingsError, argument
from evenreel.ops.cuts import CutFinder
from evenreel.progress import Progress
from evenreel.settings import EditSettings
from evenreel.settings.kinds import cut_frames
from evenreel.video import FrameStream, to_model


def told_cuts(cuts: str, first: int, count: int, finder: CutFinder, *, to_the_end: bool) -> list[int]:
    """Return where scenes begin in `count` frames from `first` on, as `cuts` says or as was found.

    Numbers are those among these frames. Raises: SettingsError for cuts behind the last frame, where these frames go
    to the end of the clip.
    """
    told = cut_frames(cuts)
    if told is None:
        return finder.cuts()
    if told and told[-1] >= first + count and to_the_end:
        raise SettingsError(
            f"{argument('cuts')} names frame {told[-1]}, and the clip has {first + count}, counted from 0; choose "
            "earlier ones."
        )
    return [number - first for number in told if first < number < first + count]


def parted(cuts: list[int], count: int) -> list[slice]:
    """Cut a clip of `count` frames where scenes begin."""
    starts = [0, *cuts]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


def scenes_of(
    stream: FrameStream, settings: EditSettings, progress: Progress
) -> tuple[list[slice], list[Fraction]]:
    """Read a clip for its scenes and timestamps. Raises: ClipError, SettingsError for cuts behind the last frame."""
    finder, times = CutFinder(settings.cut_threshold), list[Fraction]()
    for pixels, timestamps in stream:
        if settings.cuts == "auto":
            finder.see(to_model(pixels, (stream.info.width, stream.info.height)))
        times.extend(timestamps)
        progress("read", len(times), stream.info.estimated_frame_count)
    to_the_end = settings.frames[1] is None
    cuts = told_cuts(settings.cuts, stream.start, len(times), finder, to_the_end=to_the_end)
    return parted(cuts, len(times)), times
