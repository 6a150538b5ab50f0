"""A mask from words: a model finds what they say on one frame of each scene, and from there it is carried."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch

from evenreel.errors import SettingsError, argument
from evenreel.progress import Progress
from evenreel.settings import EditSettings
from evenreel.types import Frames
from evenreel.workflows.editing.regions import mask_models
from evenreel.workflows.editing.regions.carried_mask import (
    CarriedMask,
    Start,
    carried,
    carried_mask,
    scaled,
    scene_of,
    tell_lost,
    working_size,
)
from evenreel.workflows.editing.regions.mask_models import Way, as_frames
from evenreel.workflows.editing.regions.region import MaskClip

LOOKED = 8
"""Frames of a scene that are looked at, evenly spread, where none is told."""
SUREST = 0.01
"""Share of a frame's places, the surest ones, whose mean says how surely the frame shows what is looked for."""


@runtime_checkable
class FindsWords(Protocol):
    """A model that tells where things are."""

    def likeness(self, frames: Frames, words: str) -> torch.Tensor:
        """Return how surely each place of frames is what words say, from 0 to 1 (frames, height, width)."""
        ...


def mask_along(
    settings: EditSettings,
    mask: MaskClip | None,
    first: int,
    frames: Callable[[], Iterable[torch.Tensor]],
    scenes: Sequence[slice],
    device: torch.device | str | None,
    progress: Progress,
    notice: Callable[[str], None],
) -> CarriedMask:
    """Return the mask of each frame, carried from where `mask` was painted or from where words are found.

    Arguments, and what is raised, are as of `carried_mask` and `words_mask`; models of the user's are loaded on
    `device`. Raises also: WeightsError.
    """
    way = mask_models.way_of(settings, device)
    if mask is not None:
        assert settings.mask_frame is not None, "a mask that is carried has a frame"
        return carried_mask(mask, settings.mask_frame, first, frames(), scenes, way, progress, notice)
    model = mask_models.words_model(settings, device)
    return words_mask(settings, first, frames, scenes, model, way, progress, notice)


def words_mask(
    settings: EditSettings,
    first: int,
    frames: Callable[[], Iterable[torch.Tensor]],
    scenes: Sequence[slice],
    model: FindsWords,
    way: Way,
    progress: Progress,
    notice: Callable[[str], None],
) -> CarriedMask:
    """Return where a clip shows what `settings.mask_words` say.

    `frames` gives the windows of frames that are edited, from number `first` of the source on, as often as it is
    called; `scenes` are those of them that belong together. In each scene it is found on the frame that shows it most
    surely of LOOKED, or on `mask_frame`, and carried from there; what is surer than `mask_words_threshold` belongs to
    it. Raises: SettingsError where it is found nowhere or everywhere, or for a frame that is not edited; ClipError for
    frames that are too small.
    """
    words, sure_from = settings.mask_words or "", settings.mask_words_threshold
    places: dict[int, slice]
    if settings.mask_frame is not None:
        scene, number = scene_of("mask_frame", settings.mask_frame, first, scenes)
        places = {number: scene}
    else:
        places = {number: scene for scene in scenes for number in _spread(scene)}
    best: dict[int, tuple[float, Start]] = {}
    surest, seen, size = 0.0, 0, (0, 0)
    progress("find words", 0, len(places))
    for number, frame in _numbered(frames(), set(places)):
        size = frame.shape[0], frame.shape[1]
        picture = scaled(frame, working_size(*size, way.side))
        sure = model.likeness(as_frames(picture), words)[0]
        shows = float(sure.flatten().topk(max(1, round(SUREST * sure.numel()))).values.mean())
        surest = max(surest, shows)
        scene, found = places[number], sure > sure_from
        if bool(found.any()) and shows > best.get(scene.start, (0.0,))[0]:
            best[scene.start] = shows, Start(scene, number, found.numpy())
        seen += 1
        progress("find words", seen, len(places))
    if not best:
        looked = f"frame {settings.mask_frame}" if settings.mask_frame is not None else f"{seen} frames"
        raise SettingsError(
            f"{argument('mask_words')} {words!r} is not found in {looked} looked at (at most {surest:.2f} sure, and "
            f"{argument('mask_words_threshold')} is {sure_from:g}); use other words, lower that, or name a frame that "
            f"shows it with {argument('mask_frame')}."
        )
    starts = [start for _, start in best.values()]
    told = ", ".join(str(first + start.number) for start in starts[:8])
    notice(
        f"{words!r} is found on frame {told}{' and more' if len(starts) > 8 else ''}, and followed from there"
    )
    without = [scene for scene in scenes if scene.start not in best]
    if without:
        notice(
            f"{words!r} is not found in {len(without)} of {len(scenes)} scenes, the first of them from frame "
            f"{first + without[0].start} on; these stay the source"
        )
    masks = carried(starts, size, frames(), scenes, way, progress)
    tell_lost(masks, [start.scene for start in starts], first, repr(words), notice)
    return CarriedMask(masks, size, f"the mask from {argument('mask_words')} {words!r}")


def _spread(scene: slice) -> list[int]:
    """Frames of a scene that are looked at, in the middles of as many equal parts."""
    count = scene.stop - scene.start
    parts = min(LOOKED, count)
    return [scene.start + (2 * part + 1) * count // (2 * parts) for part in range(parts)]


def _numbered(windows: Iterable[torch.Tensor], wanted: set[int]) -> Iterable[tuple[int, torch.Tensor]]:
    """Those frames that are wanted, with their numbers, and none behind the last of them."""
    place, last = 0, max(wanted)
    for pixels in windows:
        for frame in pixels:
            if place in wanted:
                yield place, frame
            if place == last:
                return
            place += 1
