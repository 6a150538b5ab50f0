"""A source and its edit (and mask and right answer) read beside each other, window by window."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import interpolate

from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.metrics.window import LENGTH, Part
from evenreel.types import Pixels
from evenreel.video import FrameStream, ReadSettings, VideoInfo, open_clip, to_model
from evenreel.workflows.evaluation.pairs import Pair

SOURCE, EDIT, TRUTH, MASK = "source", "edit", "right answer", "mask"
WINDOW_PIXELS = 2**22
"""Pixels of the source that are looked at together: 8 frames of 718 x 718, with which a process peaks at 1.3 GB."""
LOSSLESS = ("png", "bmp")
"""Masks in which every level but 0 is meant (label maps too); others are split in the middle."""
MIDDLE = 128
FRAMES, MASKS = ReadSettings(), ReadSettings(background=(0, 0, 0))
"""What is transparent in a mask is not marked."""


class SideBySide:
    """The frames of a pair, in step; `notes` tells what had to be adapted, `count` how many there were.

    Frames are paired by their order. Another size of edit or truth is brought to that of the source; another number of
    frames is a ClipError, as it would shift every comparison.
    """

    def __init__(self, pair: Pair, frames: tuple[int, int | None]) -> None:
        """`frames` are those of the source. Raises ClipError for clips that cannot be read or differ in length."""
        self.notes: list[str] = []
        self.count = 0
        self.source = open_clip(pair.source, *frames)
        self.streams = {SOURCE: self.source, EDIT: open_clip(pair.edit)}
        if pair.truth is not None:
            self.streams[TRUTH] = self._of_source(pair.truth)
        self.mask: FrameStream | None = None
        self._still: Pixels | None = None
        if pair.mask is not None:
            self.mask = self._of_source(pair.mask, MASKS)
            if len(self.mask.info.images) == 1:
                self._still = next(iter(self.mask))[0]
            else:
                self.streams[MASK] = self.mask
            self._note_size(MASK, self.mask.info)
        for what, stream in self.streams.items():
            stream.window = max(1, min(LENGTH, WINDOW_PIXELS // (self.size[0] * self.size[1])))
            self._check_length(what, stream)
            if what in (EDIT, TRUTH):
                self._note_size(what, stream.info)
        self._marked, self._in_time = False, True
        self._starts = Fraction(0), Fraction(0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the source, at which everything is compared."""
        return self.source.info.width, self.source.info.height

    @property
    def expected(self) -> int | None:
        """Frames to come, where a file declares them."""
        counts = map(_count, self.streams.values())
        return next((count for count in counts if count is not None), None)

    def __iter__(self) -> Iterator[Part]:
        """Every frame once, in parts of one length. Raises ClipError where one clip ends before the others."""
        running = {what: iter(stream) for what, stream in self.streams.items()}
        while found := {
            what: window for what, it in running.items() if (window := next(it, None)) is not None
        }:
            lengths = {what: len(found[what][0]) if what in found else 0 for what in running}
            for what, length in lengths.items():
                if length != lengths[SOURCE]:
                    raise self._differ(what, lengths[SOURCE], length)
            self._compare_times(found[SOURCE][1], found[EDIT][1])
            yield self._part({what: pixels for what, (pixels, _) in found.items()})
            self.count += lengths[SOURCE]
        if self.mask is not None and not self._marked:
            self.notes.append("the mask marks nothing: everything counts as background")

    def _part(self, pixels: Mapping[str, Pixels]) -> Part:
        mask = pixels.get(MASK, self._still)
        return Part(
            to_model(pixels[SOURCE], self.size),
            to_model(pixels[EDIT], self.size),
            None if mask is None else self._background(mask, len(pixels[SOURCE])),
            to_model(pixels[TRUTH], self.size) if TRUTH in pixels else None,
        )

    def _background(self, mask: Pixels, count: int) -> Bool[Tensor, "count 1 source_height source_width"]:
        assert self.mask is not None
        info = self.mask.info
        threshold = 1 if info.is_images and info.codec in LOSSLESS else MIDDLE
        marked = mask.amax(-1)[:, None] >= threshold
        self._marked |= bool(marked.any())
        width, height = self.size
        if marked.shape[2:] != (height, width):
            enlarged = interpolate(marked.float(), (height, width), mode="nearest-exact")
            marked = enlarged > 0
        return ~marked if len(marked) == count else ~marked.expand(count, -1, -1, -1)

    def _of_source(self, path: Path, settings: ReadSettings = FRAMES) -> FrameStream:
        """A mask or truth: of the frames that were edited, or, where it has as many as the source, of all of it."""
        stream = open_clip(path, settings=settings)
        whole = self.source.info.frame_count
        if whole is not None and stream.info.frame_count == whole:
            return open_clip(path, self.source.start, self.source.end, settings=settings)
        return stream

    def _check_length(self, what: str, stream: FrameStream) -> None:
        one, other = _count(self.source), _count(stream)
        if one is not None and other is not None and one != other:
            raise self._mismatch(what, str(one), str(other))

    def _differ(self, what: str, of_source: int, length: int) -> ClipError:
        ended = self.count + min(of_source, length)

        def said(here: int) -> str:
            return str(ended) if self.count + here == ended else f"more than {ended}"

        return self._mismatch(what, said(of_source), said(length))

    def _mismatch(self, what: str, one: str, other: str) -> ClipError:
        source, path = (shown(self.streams[key].info.path) for key in (SOURCE, what))
        part = f"say with {argument('frames')} START:END which frames of the source were edited"
        advice = part if what == EDIT else "give one frame for each"
        return ClipError(
            f"the source {source} has {one} frames to compare and the {what} {path} {other}; {advice}."
        )

    def _note_size(self, what: str, info: VideoInfo) -> None:
        width, height = self.size
        if (info.width, info.height) == (width, height):
            return
        text = f"the {what} ({info.width} x {info.height}) was brought to the size of the source ({width} x {height})"
        if abs(info.width * height / (info.height * width) - 1) > 0.02:
            text += "; its aspect ratio differs: if it was cropped, no comparison with the source holds"
        self.notes.append(text)

    def _compare_times(self, source: tuple[Fraction, ...], edit: tuple[Fraction, ...]) -> None:
        """Say once where frames of one number are not of one time."""
        if not self.count:
            self._starts = source[0], edit[0]
        rate = self.source.info.average_rate
        untimed = any(self.streams[what].info.is_images for what in (SOURCE, EDIT))
        if rate is None or untimed or not self._in_time:
            return
        for one, other in zip(source, edit, strict=True):
            if abs((one - self._starts[0]) - (other - self._starts[1])) > 1 / (2 * rate):
                self._in_time = False
                self.notes.append(
                    "source and edit show their frames at different times; they were paired by order"
                )
                return


def _count(stream: FrameStream) -> int | None:
    """Frames that a stream will give, as far as its file declares them."""
    if stream.end is not None:
        return stream.end - stream.start
    declared = stream.info.frame_count
    return None if declared is None else declared - stream.start
