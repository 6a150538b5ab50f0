"""Masks of regions that follow prompts of their own: which cell of the latents follows which prompt."""

from collections.abc import Callable, Sequence

import torch

from evenreel.errors import SettingsError, argument
from evenreel.ops.regions import Places, cells_of
from evenreel.scratch import Growing, pieces
from evenreel.settings import RegionUse
from evenreel.workflows.editing.regions.region import MaskClip

MOST = 255
"""Regions that a byte can tell apart."""


def opened_regions(uses: Sequence[RegionUse] | None, width: int, height: int) -> tuple[MaskClip, ...]:
    """Open the masks of regions, of a clip of `width` x `height`. Raises: ClipError, SettingsError."""
    if len(uses or ()) > MOST:
        raise SettingsError(
            f"{argument('region')} is given {len(uses or ())} times; give it at most {MOST} times."
        )
    return tuple(MaskClip.opened(use.mask, width, height, "region") for use in uses or ())


def holds(places: Places, number: int) -> bool:
    """Return whether any place follows the prompt of a number."""
    return any(bool((places[part] == number).any()) for part in pieces(places))


def places_of(
    masks: Sequence[MaskClip],
    first: int,
    count: int,
    window: int,
    size: tuple[int, int],
    *,
    whole: bool,
    notice: Callable[[str], None],
) -> Places:
    """Say for each cell, of a grid of (height, width) `size`, which prompt it follows: a byte a cell.

    That is the last region that has white in it, counted from 1, or 0, the clip's own prompt. The frames are as for
    `MaskClip.cells`. Raises: SettingsError for a mask that is black throughout, or of another
    length; a prompt that is left without a place is noticed.
    """
    for mask in masks:
        mask.check_length(count, whole=whole)
    places, white = Growing(), [False] * len(masks)
    for parts in zip(*(mask.parts(first, count, window) for mask in masks), strict=True):
        follows = torch.zeros(len(parts[0]), *size, dtype=torch.uint8)
        for number, part in enumerate(parts):
            cells = cells_of(part, size)
            white[number] = white[number] or bool(cells.any())
            follows[cells] = number + 1
        places.append(follows)
    for mask, has_white in zip(masks, white, strict=True):
        if not has_white:
            raise SettingsError(
                f"{mask.whose} is black throughout the frames that are edited, so that its prompt has no place; paint "
                "white what follows it, or leave it out."
            )
    found = places.tensor()
    left = [holds(found, number) for number in range(len(masks) + 1)]
    if not left[0]:
        notice("regions cover all of the clip, so that the prompt has no place of its own")
    for mask, has_place in zip(masks, left[1:], strict=True):
        if not has_place:
            notice(f"{mask.whose} is covered by later regions, so that its prompt has no place")
    return found
