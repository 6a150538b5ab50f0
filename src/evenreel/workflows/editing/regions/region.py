"""The part of each frame that an edit concerns: outside it the source stays, bit for bit but for a soft edge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from evenreel.diffusion.sampling import PutBack
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import ClipError, SettingsError, argument
from evenreel.files import shown
from evenreel.ops.edges import blurred
from evenreel.ops.regions import Cells, Part, Weights, cells_of, feathered, pixels_of
from evenreel.scratch import Growing, piecewise
from evenreel.types import Frames, Latents, Pixels
from evenreel.video import VideoInfo, open_clip, probe
from evenreel.workflows.editing.records import record

FEATHER = 1 / 16
"""Width of the soft edge, in shorter sides of a frame: a cell of the packaged model's latents."""
CHANGED = 0.1
"""Difference of a colour, of 1, from which a pixel is an edit's alone; below it is in part the source's own."""
BLUR = 1.5 / 128
"""Standard deviation of the blur of such differences, in shorter sides of a frame."""
WHITE = 127.5
"""Mean of red, green and blue above which a pixel of a mask is white."""


def feather_of(width: int, height: int) -> int:
    """Return pixels over which the edit fades into the source, in frames of `width` x `height`."""
    return 2 * round(FEATHER * min(width, height) / 2)


@dataclass(frozen=True)
class MaskClip:
    """A picture, or a clip, that is white where a clip is to be edited."""

    info: VideoInfo
    described: dict[str, Any]
    """For the record, hashed before the long work: afterwards it may be another file."""
    name: str = "mask"
    """The setting that names it."""

    @classmethod
    def opened(cls, path: str, width: int, height: int, name: str = "mask") -> "MaskClip":
        """Open the mask of a clip of `width` x `height`, which the setting `name` names. Raises: ClipError,
        SettingsError for one of another size."""
        info = probe(path)
        if (info.width, info.height) != (width, height):
            raise SettingsError(
                f"{argument(name)} {shown(info.path)} is {info.width} x {info.height} and the clip is {width} x "
                f"{height}; scale it to that size."
            )
        return cls(info, record.described(info), name)

    @property
    def whose(self) -> str:
        """Which mask it is, for errors."""
        return f"{argument(self.name)} {shown(self.info.path)}"

    @cached_property
    def length(self) -> int:
        """How many frames it has, counted."""
        return len(open_clip(self.info.path).times())

    def parts(self, first: int, count: int, window: int) -> Iterator[Part]:
        """Yield the white pixels for `count` frames of the source from `first` on, in windows.

        A single picture is for all of them; a clip has one for each of these frames, or is numbered as the source.
        Raises: SettingsError for one with too few, ClipError for one that cannot be read.
        """
        if self.length == 1:
            white = torch.cat([_white(pixels) for pixels, _ in open_clip(self.info.path)])
            for start in range(0, count, window):
                yield white.expand(min(window, count - start), -1, -1)
            return
        begin = 0 if self.length == count else first
        if self.length < begin + count:
            raise SettingsError(
                f"{self.whose} has {self.length} frames and {count} are edited"
                f"{f', from {first} on' if first else ''}; give one picture for all, or a clip of as many frames."
            )
        for pixels, _ in open_clip(self.info.path, begin, begin + count, window=window):
            yield _white(pixels)

    def check_length(self, count: int, *, whole: bool) -> None:
        """Raise SettingsError where `count` frames are the whole clip, and the mask has others."""
        if whole and self.length not in (1, count):
            raise SettingsError(
                f"{self.whose} has {self.length} frames and the clip has {count}; give one picture for all, or a clip "
                "of as many frames."
            )

    def cells(self, first: int, count: int, window: int, size: tuple[int, int], *, whole: bool) -> Cells:
        """Find the cells, of a grid of (height, width) `size`, that hold white.

        The frames are as for `parts`; of the whole clip, the mask must have just as many. Raises: SettingsError, also
        for a mask that is black throughout, or white throughout.
        """
        self.check_length(count, whole=whole)
        return cells_of_mask(self.whose, self.parts(first, count, window), size)


@runtime_checkable
class Mask(Protocol):
    """What says, pixel by pixel, where a clip is edited."""

    @property
    def described(self) -> dict[str, Any] | None:
        """For the record: the file that it comes from, if any."""
        ...

    def parts(self, first: int, count: int, window: int) -> Iterator[Part]:
        """Yield the white pixels for `count` frames of the source from `first` on, in windows."""
        ...


def cells_of_mask(whose: str, parts: Iterable[Part], size: tuple[int, int]) -> Cells:
    """Find the cells, of a grid of (height, width) `size`, that hold white, of `parts` that come from a mask, which
    `whose` names.

    Raises: SettingsError for a mask that is black throughout, or white throughout.
    """
    found, everywhere = Growing(), True
    for part in parts:
        found.append(cells_of(part, size))
        everywhere = everywhere and bool(part.all())
    cells = found.tensor()
    if not bool(cells.any()):
        raise SettingsError(
            f"{whose} is black throughout the frames that are edited, so that nothing is to be edited; paint white "
            "what is."
        )
    if everywhere:
        raise SettingsError(
            f"{whose} is white throughout the frames that are edited, so that all is to be edited; leave it out."
        )
    return cells


@dataclass(frozen=True)
class Region:
    """Where a clip is edited."""

    cells: Cells
    """Of the latents, those that the edit makes; the others are the source's at every step."""
    first: int = 0
    """Number, in the source, of the first frame."""
    mask: Mask | None = None
    """What says so pixel by pixel; None where it is the cells themselves."""
    everywhere: tuple[slice, ...] = ()
    """Scenes of which everything is edited, and nothing is put back."""
    reshaped: tuple[slice, ...] = ()
    """Scenes of which another shape is asked for, and nothing else."""
    of_prompts: tuple["Region | None", ...] = ()
    """Where the clip's prompt alone would edit, and then each region's; None is everywhere. None of them where all edit
    in the same places."""

    def part(self, frames: slice) -> "Region":
        """Return where some frames are edited, for sampling."""
        apart = (None if one is None else one.part(frames) for one in self.of_prompts)
        reshaped = (slice(0, frames.stop - frames.start),) if frames in self.reshaped else ()
        first = self.first + frames.start
        return Region(self.cells[frames], first, reshaped=reshaped, of_prompts=tuple(apart))

    def of_prompt(self, number: int) -> "Region | None":
        """Return where one of the prompts is to be followed while it is: as if it were alone."""
        return self.of_prompts[number] if self.of_prompts else self

    def parts(self, size: tuple[int, int], window: int) -> Iterator[Part]:
        """Yield the edited pixels of frames of (width, height) `size`, in windows."""
        if self.mask is not None:
            yield from self.mask.parts(self.first, len(self.cells), window)
            return
        for cells in self.cells.split(window):
            yield pixels_of(cells, (size[1], size[0]))

    def put_back(
        self,
        edited: Iterator[tuple[Pixels, Weights]],
        source: Iterator[Pixels],
        size: tuple[int, int],
        window: int,
    ) -> Iterator[Pixels]:
        """Yield windows of edited frames of (width, height) `size`, with the source's own pixels where nothing changed.

        That is outside the region, and inside it by how much of each pixel is `changed`, which comes with the windows.
        Raises: ClipError where the source has fewer frames than it had.
        """
        kept, parts, start = Queue(source), Queue(self.parts(size, window)), 0
        for pixels, weights in edited:
            weights = weights * feathered(parts.take(len(pixels)), feather_of(*size))
            for scene in self.everywhere:
                weights[max(0, scene.start - start) : max(0, scene.stop - start)] = 1
            start += len(pixels)
            yield mixed(pixels, kept.take(len(pixels)), weights)

    def put_back_whole(self, edited: Frames, rebuilt: Frames, source: Frames) -> Frames:
        """Put the source back in a whole clip that is in memory as the model has it, with colours in [0, 1]."""
        height, width = edited.shape[2:]
        part = pixels_of(self.cells, (height, width))
        weights = (feathered(part, feather_of(width, height)).to(edited) * changed(edited, rebuilt))[:, None]
        return torch.where(weights > 0, source + weights * (edited - source), source)

    def putting_back(self, trajectory: Trajectory, clean: Latents) -> PutBack:
        """Return what gives latents the source's own cells outside, from its `trajectory`, or `clean` in the end."""

        def put_back(latents: Latents, timestep: int | None) -> Latents:
            source = clean if timestep is None else trajectory.read(timestep)
            return piecewise(chosen, self.cells, latents, source)

        return put_back

    @property
    def is_empty(self) -> bool:
        """Whether nothing is edited."""
        return not bool(self.cells.any())

    @property
    def shares(self) -> list[float]:
        """Share of each frame's cells that stays the source's."""
        return piecewise(lambda cells: (~cells).flatten(1).float().mean(1), self.cells).tolist()

    def described(self, size: tuple[int, int]) -> dict[str, Any]:
        """Describe, for the record, how much of each frame, of (width, height) `size`, stays the source's; and the soft
        edge.

        Shares do not count the soft edge.
        """
        shares = self.shares
        return {
            "share": round(sum(shares) / len(shares), 4),
            "shares": [round(share, 4) for share in shares],
            "feather": feather_of(*size),
        }


def changed(edited: Frames, rebuilt: Frames) -> Weights:
    """Return how much of each pixel an edit changed, from 0 to 1, where CHANGED or more is all.

    It is compared with what the autoencoder makes of the source, so that its own loss does not count.
    """
    sigma = BLUR * min(edited.shape[2:])
    return (blurred((edited - rebuilt).abs().amax(1), sigma) / CHANGED).clamp(0, 1)


def mixed(edited: Pixels, source: Pixels, weights: Weights) -> Pixels:
    """Mix edited pixels, by their weights, with the source's: those of weight 0 are the source's, bit for bit."""
    source = source.to(torch.float32)
    levels = source + weights[..., None] * (edited.to(torch.float32) - source)
    return levels.round().to(torch.uint8)


def chosen(cells: Cells, edited: Latents, source: Latents) -> Latents:
    """Return edited latents in some cells and the source's in the others."""
    return torch.where(cells[:, None].to(edited.device), edited, source.to(edited))


class Queue:
    """Rows of windows of any lengths, taken in other lengths."""

    def __init__(self, windows: Iterable[Tensor]) -> None:
        self._windows = iter(windows)
        self._held: list[Tensor] = []

    def take(self, count: int) -> Tensor:
        """Take the next `count` rows. Raises: ClipError where there are no more."""
        while sum(map(len, self._held)) < count:
            window = next(self._windows, None)
            if window is None:
                raise ClipError("the clip changed while it was edited; leave it as it is, and edit it again.")
            self._held.append(window)
        rows = torch.cat(self._held)
        self._held = [rows[count:]] if len(rows) > count else []
        return rows[:count]


def _white(pixels: Pixels) -> Part:
    return pixels.to(torch.float32).mean(-1) > WHITE
