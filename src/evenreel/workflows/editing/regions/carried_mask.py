"""A mask that is known on one frame, as it was painted or found there, carried to the others of its scene."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit

from evenreel.errors import ClipError, SettingsError, argument
from evenreel.files import shown
from evenreel.ops.carrying import Mask, Picture
from evenreel.ops.dense_flow import FlowError
from evenreel.ops.regions import Cells, Part
from evenreel.progress import Progress
from evenreel.scratch import Growing, room
from evenreel.workflows.editing.regions import mask_models
from evenreel.workflows.editing.regions.mask_models import Way
from evenreel.workflows.editing.regions.region import MaskClip, cells_of_mask


@dataclass(frozen=True)
class Start:
    """Where a mask is known."""

    scene: slice
    """Frames that belong together, of those that are edited."""
    number: int
    """Of the frame, among those that are edited."""
    mask: Mask
    """What belongs to it there, in a picture of the size that is followed."""


@dataclass(frozen=True)
class CarriedMask:
    """What was known on one frame of a scene, in all frames that are edited."""

    masks: Part
    """What it became, in pictures whose shorter side is `mask_models.SIDE` at most."""
    size: tuple[int, int]
    """Height and width of the frames."""
    whose: str
    """Which mask it is, for errors."""
    painted: tuple[int, MaskClip] | None = None
    """What was painted, and the number of the frame it was painted on among those that are edited."""

    @property
    def described(self) -> dict[str, Any] | None:
        """For the record: the picture that was painted."""
        return None if self.painted is None else self.painted[1].described

    def parts(self, first: int, count: int, window: int) -> Iterator[Part]:
        """Yield the white pixels of `count` frames, in windows; `first` is the number of the first in the source."""
        assert count == len(self.masks), "it was carried along these frames"
        for start in range(0, count, window):
            small = self.masks[start : start + window]
            part = F.interpolate(small[:, None].float(), self.size, mode="bilinear")[:, 0] > 0.5
            if self.painted is not None and start <= self.painted[0] < start + len(part):
                number, mask = self.painted  # as it was painted, to the pixel
                part[number - start] = next(mask.parts(first, 1, 1))[0]
            yield part

    def cells(self, first: int, count: int, window: int, size: tuple[int, int]) -> Cells:
        """Find the cells, of a grid of (height, width) `size`, that hold white. Raises: SettingsError for a mask that
        is black throughout, or white throughout."""
        return cells_of_mask(self.whose, self.parts(first, count, window), size)


def check_painted(mask: MaskClip) -> None:
    """Check that a mask can be carried. Raises: SettingsError for a clip."""
    if mask.length != 1:
        raise SettingsError(
            f"{argument('mask_frame')} says on which frame a picture was painted, and {argument('mask')} "
            f"{shown(mask.info.path)} has {mask.length} frames; give one picture, or leave the frame out."
        )


def carried_mask(
    mask: MaskClip,
    frame: int,
    first: int,
    windows: Iterable[torch.Tensor],
    scenes: Sequence[slice],
    way: Way,
    progress: Progress,
    notice: Callable[[str], None],
) -> CarriedMask:
    """Return what was painted on a frame, by its number in the source, followed to the others of its scene.

    `windows` are the frames that are edited, from number `first` of the source on, and `scenes` those of them that
    belong together. Frames of other scenes have no mask, which is said. Raises: SettingsError for a frame that is not
    edited, ClipError for frames that are too small.
    """
    scene, number = scene_of("mask_frame", frame, first, scenes)
    whole = mask.info.height, mask.info.width
    painted = next(mask.parts(first, 1, 1))[None].float()
    small = F.interpolate(painted, working_size(*whole, way.side), mode="area")[0, 0] > 0.5
    start = Start(scene, number, small.numpy())
    masks = carried([start], whole, windows, scenes, way, progress)
    if scene != slice(0, len(masks)):
        notice(
            f"the mask is carried through its scene, frames {first + scene.start} to {first + scene.stop - 1}; what "
            "lies in other scenes stays the source"
        )
    tell_lost(masks, [scene], first, "what was painted", notice)
    return CarriedMask(masks, whole, mask.whose, (number, mask))


def scene_of(name: str, frame: int, first: int, scenes: Sequence[slice]) -> tuple[slice, int]:
    """Return the scene of a frame that setting `name` tells by its number in the source, and its number among those
    that are edited. Raises: SettingsError for a frame that is not edited."""
    number = frame - first
    scene = next((one for one in scenes if one.start <= number < one.stop), None)
    if scene is None:
        raise SettingsError(
            f"{argument(name)} is {frame}, and frames {first} to {first + scenes[-1].stop - 1} are edited; name one of "
            "these."
        )
    return scene, number


def carried(
    starts: Sequence[Start],
    size: tuple[int, int],
    windows: Iterable[torch.Tensor],
    scenes: Sequence[slice],
    way: Way,
    progress: Progress,
) -> Part:
    """Return masks of all frames of (height, width) `size`, followed from where they are known, at most one start a
    scene and in their order; other scenes have none. Raises: ClipError for frames that are too small."""
    kept = working_size(*size, mask_models.SIDE)
    masks = room((scenes[-1].stop, *kept), torch.bool).zero_()
    total, done = sum(start.scene.stop - start.scene.start for start in starts), 0
    progress("carry mask", 0, total)
    pictures = _pictures(windows, working_size(*size, way.side))
    try:
        for start in starts:
            for place, found in _followed(start, pictures, way):
                masks[place] = _of_size(found, kept)
                done += 1
                progress("carry mask", done, total)
    except FlowError as error:
        raise ClipError(f"the mask cannot be followed: {error}; give a mask of every frame.") from error
    return masks


def tell_lost(
    masks: Part, scenes: Sequence[slice], first: int, what: str, notice: Callable[[str], None]
) -> None:
    """Say in how many frames of scenes nothing was found."""
    every = [place for scene in scenes for place in range(scene.start, scene.stop)]
    lost = [place for place in every if not bool(masks[place].any())]
    if lost:
        notice(
            f"{what} is not found in {len(lost)} of {len(every)} frames, the first of them {first + lost[0]}; these "
            "stay the source"
        )


def _followed(start: Start, pictures: Iterator[tuple[int, Picture]], way: Way) -> Iterator[tuple[int, Mask]]:
    """The masks of the frames of a scene, with their numbers: from the known one on, then backwards from it."""
    before, follows, home = Growing(), None, None
    scene, number = start.scene, start.number
    for place, picture in pictures:
        if scene.start <= place < number:
            before.append(torch.from_numpy(picture)[None])
        elif place == number:
            home, follows = picture, way.begin(picture, start.mask)
            yield place, start.mask
        elif place > number:
            assert follows is not None, "frames come in their order"
            yield place, follows.next(picture)
        if place == scene.stop - 1:
            break
    if number > scene.start and home is not None:
        earlier, follows = before.tensor(), way.begin(home, start.mask)
        for place in reversed(range(scene.start, number)):
            yield place, follows.next(earlier[place - scene.start].numpy())


def _pictures(windows: Iterable[torch.Tensor], size: tuple[int, int]) -> Iterator[tuple[int, Picture]]:
    place = 0
    for pixels in windows:
        for frame in pixels:
            yield place, scaled(frame, size)
            place += 1


def scaled(frame: torch.Tensor, size: tuple[int, int]) -> Picture:
    """Return a frame, uint8 (height, width, 3), at another (height, width)."""
    if tuple(frame.shape[:2]) == size:
        return np.ascontiguousarray(frame.numpy())
    levels = F.interpolate(frame.movedim(-1, 0)[None].float(), size, mode="area")[0]
    return np.ascontiguousarray(levels.round().to(torch.uint8).movedim(0, -1).numpy())


def working_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the (height, width) of pictures whose shorter side is `side` at most."""
    share = min(1.0, side / min(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _of_size(mask: Mask, size: tuple[int, int]) -> torch.Tensor:
    found = torch.from_numpy(mask)
    if tuple(found.shape) == size:
        return found
    return F.interpolate(found[None, None].float(), size, mode="area")[0, 0] > 0.5
