"""A clip without what its mask shows, scene by scene."""

from collections.abc import Iterable, Iterator, Sequence

import torch

from evenreel.errors import ClipError, PluginError, SettingsError, argument
from evenreel.ops.dense_flow import FlowError
from evenreel.ops.regions import grown
from evenreel.ops.removal import filled
from evenreel.progress import Progress
from evenreel.scratch import Growing
from evenreel.types import Pixels
from evenreel.workflows.editing.regions.region import Region

MARGIN = 1 / 43
"""By how much what is removed is larger than the mask, in shorter sides of a frame: outlines are soft, and belong to
the object."""


def margin_of(width: int, height: int) -> int:
    """Return pixels by which the mask is grown, in frames of `width` x `height`."""
    return max(1, round(MARGIN * min(width, height)))


def check_can_remove() -> None:
    """Raise PluginError where OpenCV is not installed."""
    try:
        import cv2  # noqa: F401 - whether it is there
    except ImportError as error:
        raise PluginError(f"{argument('remove')} needs OpenCV; install evenreel[metrics].") from error


def check_found(region: Region | None) -> None:
    """Raise SettingsError where nothing, or all, of a scene would go."""
    if region is None or region.everywhere or region.is_empty:
        said = "nothing" if region is not None and region.is_empty else "all of a scene"
        raise SettingsError(
            f"the prompts change {said}, so that they do not say what is to be removed; give {argument('mask')}."
        )


def removed(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    scenes: Sequence[slice],
    window: int,
    progress: Progress,
) -> Iterator[Pixels]:
    """Yield windows of a clip without what its masks show; `pairs` are windows of frames and their masks.

    Nothing passes from one scene to another. Frames of a scene lie on disk once they are many. Raises: ClipError for
    frames that are too small.
    """
    count, done = scenes[-1].stop, 0
    progress("remove", 0, count)
    frames = ((pixels, part) for pair in pairs for pixels, part in zip(*pair, strict=True))
    for scene in scenes:
        pictures, hidden = Growing(), Growing()
        for _, (pixels, part) in zip(range(scene.stop - scene.start), frames, strict=False):
            pictures.append(pixels[None])
            hidden.append(grown(part[None], margin_of(pixels.shape[1], pixels.shape[0])))
        held: list[torch.Tensor] = []
        try:
            for picture in filled(pictures.tensor(), hidden.tensor()):
                held.append(torch.from_numpy(picture))
                done += 1
                progress("remove", done, count)
                if len(held) == window:
                    yield torch.stack(held)
                    held = []
        except FlowError as error:
            raise ClipError(f"{argument('remove')} has no use: {error}.") from error
        if held:
            yield torch.stack(held)
