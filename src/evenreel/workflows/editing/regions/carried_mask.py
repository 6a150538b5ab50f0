"""A mask that was painted on one frame, carried to the others of its scene."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit

from evenreel.errors import ClipError, PluginError, SettingsError, argument
from evenreel.files import shown
from evenreel.ops.carrying import Carrier, Mask, Picture
from evenreel.ops.dense_flow import FlowError
from evenreel.ops.regions import Cells, Part
from evenreel.progress import Progress
from evenreel.scratch import Growing, room
from evenreel.workflows.editing.regions.region import MaskClip, cells_of_mask

SIDE = 384
"""Shorter side, at most, of the pictures in which a mask is followed."""


@dataclass(frozen=True)
class CarriedMask:
    """What was painted on one frame of a clip, in all frames that are edited."""

    mask: MaskClip
    """What was painted."""
    number: int
    """Of the frame it was painted on, among those that are edited."""
    masks: Part
    """What it became, in pictures whose shorter side is SIDE at most."""

    @property
    def described(self) -> dict[str, Any]:
        """For the record: the picture that was painted."""
        return self.mask.described

    def parts(self, first: int, count: int, window: int) -> Iterator[Part]:
        """Yield the white pixels of `count` frames, in windows; `first` is the number of the first in the source."""
        assert count == len(self.masks), "it was carried along these frames"
        size = self.mask.info.height, self.mask.info.width
        for start in range(0, count, window):
            small = self.masks[start : start + window]
            part = F.interpolate(small[:, None].float(), size, mode="bilinear")[:, 0] > 0.5
            if start <= self.number < start + len(part):  # as it was painted, to the pixel
                part[self.number - start] = next(self.mask.parts(first, 1, 1))[0]
            yield part

    def cells(self, first: int, count: int, window: int, size: tuple[int, int]) -> Cells:
        """Find the cells, of a grid of (height, width) `size`, that hold white. Raises: SettingsError for a mask that
        is black throughout, or white throughout."""
        return cells_of_mask(self.mask, self.parts(first, count, window), size)


def check_painted(mask: MaskClip) -> None:
    """Check that a mask can be carried. Raises: SettingsError for a clip, PluginError without OpenCV."""
    if mask.length != 1:
        raise SettingsError(
            f"{argument('mask_frame')} says on which frame a picture was painted, and {argument('mask')} "
            f"{shown(mask.info.path)} has {mask.length} frames; give one picture, or leave the frame out."
        )
    try:
        import cv2  # noqa: F401 - whether it is there
    except ImportError as error:
        raise PluginError(
            f"{argument('mask_frame')} needs OpenCV to follow the mask; install evenreel[metrics], or give a mask of "
            "every frame."
        ) from error


def carried_mask(
    mask: MaskClip,
    frame: int,
    first: int,
    windows: Iterable[torch.Tensor],
    scenes: Sequence[slice],
    progress: Progress,
    notice: Callable[[str], None],
) -> CarriedMask:
    """Return what was painted on a frame, by its number in the source, followed to the others of its scene.

    `windows` are the frames that are edited, from number `first` of the source on, and `scenes` those of them that
    belong together. Frames of other scenes have no mask, which is said. Raises: SettingsError for a frame that is not
    edited, ClipError for frames that are too small.
    """
    count, number = scenes[-1].stop, frame - first
    scene = next((one for one in scenes if one.start <= number < one.stop), None)
    if scene is None:
        raise SettingsError(
            f"{argument('mask_frame')} is {frame}, and frames {first} to {first + count - 1} are edited; paint the "
            "mask on one of these."
        )
    size = _working_size(mask)
    small = F.interpolate(next(mask.parts(first, 1, 1))[None].float(), size, mode="area")[0, 0] > 0.5
    masks = room((count, *size), torch.bool).zero_()
    progress("carry mask", 0, scene.stop - scene.start)
    try:
        for done, (place, found) in enumerate(_followed(small.numpy(), number, scene, size, windows), 1):
            masks[place] = torch.from_numpy(found)
            progress("carry mask", done, scene.stop - scene.start)
    except FlowError as error:
        raise ClipError(
            f"{argument('mask_frame')} has no use: {error}; give a mask of every frame."
        ) from error
    _tell(masks, scene, first, notice)
    return CarriedMask(mask, number, masks)


def _followed(
    painted: Mask, number: int, scene: slice, size: tuple[int, int], windows: Iterable[torch.Tensor]
) -> Iterator[tuple[int, Mask]]:
    """The masks of the frames of a scene, with their numbers: from the painted one on, then backwards from it."""
    before, carrier, home = Growing(), None, None
    for place, picture in _pictures(windows, scene, size):
        if place < number:
            before.append(torch.from_numpy(picture)[None])
        elif place == number:
            home, carrier = picture, Carrier(picture, painted)
            yield place, painted
        else:
            assert carrier is not None, "frames come in their order"
            yield place, carrier.next(picture)
    if number > scene.start and home is not None:
        earlier, carrier = before.tensor(), Carrier(home, painted)
        for place in reversed(range(scene.start, number)):
            yield place, carrier.next(earlier[place - scene.start].numpy())


def _pictures(
    windows: Iterable[torch.Tensor], scene: slice, size: tuple[int, int]
) -> Iterator[tuple[int, Picture]]:
    place = 0
    for pixels in windows:
        for frame in pixels:
            if scene.start <= place < scene.stop:
                yield place, _scaled(frame, size)
            place += 1
            if place == scene.stop:
                return


def _scaled(frame: torch.Tensor, size: tuple[int, int]) -> Picture:
    if tuple(frame.shape[:2]) == size:
        return np.ascontiguousarray(frame.numpy())
    levels = F.interpolate(frame.movedim(-1, 0)[None].float(), size, mode="area")[0]
    return np.ascontiguousarray(levels.round().to(torch.uint8).movedim(0, -1).numpy())


def _working_size(mask: MaskClip) -> tuple[int, int]:
    height, width = mask.info.height, mask.info.width
    share = min(1.0, SIDE / min(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _tell(masks: Part, scene: slice, first: int, notice: Callable[[str], None]) -> None:
    """Say where there is no mask, though something was painted."""
    if scene != slice(0, len(masks)):
        notice(
            f"the mask is carried through its scene, frames {first + scene.start} to {first + scene.stop - 1}; what "
            "lies in other scenes stays the source"
        )
    lost = [place for place in range(scene.start, scene.stop) if not bool(masks[place].any())]
    if lost:
        notice(
            f"what was painted is not found in {len(lost)} of {scene.stop - scene.start} frames, the first of them "
            f"{first + lost[0]}; these stay the source"
        )
