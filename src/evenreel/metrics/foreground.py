"""The edited part by itself: what `background_*` leaves out.

Most figures of a whole frame are ruled by its larger part. Inside the mask the source is not a reference (it was to
change), so only the prompt, the right answer and the source's motion are.
"""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.clip import ClipText
from evenreel.metrics.fidelity import TruthPsnr
from evenreel.metrics.temporal import WarpError, warp_differences
from evenreel.metrics.window import Inputs, Window
from evenreel.ops.warp import Visible

NO_FOREGROUND = "the mask marks nothing"


class ForegroundClipText(ClipText):
    """CLIP-T of the edited part: mean over edited frames of 100 times the cosine of the prompt's embedding and that of
    what lies inside the mask.

    Each frame is made black outside the mask (as FiVE and PIE-Bench do) and cut to the smallest square around what is
    marked, black where that reaches out of the frame; then as `clip_t`. A frame whose mask is empty does not count.
    The prompt is the whole one, background and all, so it is lower than `clip_t` where that asks for much around.
    """

    label = "foreground CLIP-T"
    needs = ("clip", "prompt", "mask")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.unmarked = 0

    def add(self, window: Window) -> None:
        """Compare each frame's marked part with the prompt."""
        assert self.inputs.clip is not None
        for frame, marked in zip(window.edit, _foreground(window), strict=True):
            if not marked.any():
                self.unmarked += 1
                continue
            embedding = self.inputs.clip.embed_frames(marked_square(frame, marked)[None])
            self.mean.add(100 * functional.normalize(embedding, dim=-1) @ self.text)

    def value(self) -> float:
        """Return the mean over frames in which something is marked."""
        return self.mean.value(NO_FOREGROUND)

    @property
    def note(self) -> str:
        """Frames that did not count."""
        return f"without {self.unmarked} frames in which nothing is marked" if self.unmarked else ""


class ForegroundTruthPsnr(TruthPsnr):
    """Peak signal-to-noise ratio of the edit against the right answer, over foreground pixels only (inside the mask).

    The squared error is averaged over the marked pixels of all frames before the logarithm.
    """

    label = "foreground truth PSNR"
    needs = ("truth", "mask")
    empty = NO_FOREGROUND

    def errors(self, window: Window) -> Tensor:
        """Return the squared errors of the pixels inside the mask, against the right answer."""
        errors = super().errors(window)
        return errors[_foreground(window).expand_as(errors)]


class _PartOfWarpError(WarpError):
    """`warp_error` over some of the places that stay visible."""

    needs = ("flow", "mask")

    @abstractmethod
    def counts(self, background: Bool[Tensor, "frames 1 height width"]) -> Visible:
        """Return which places count, one row for each frame."""

    def add(self, window: Window) -> None:
        """Look at the window's pairs; a pair's places are those of its first frame."""
        if len(window.edit_run) > 1:
            assert window.background_run is not None
            flow, visible = window.motion
            chosen = visible & self.counts(window.background_run[:-1])
            self.pairs += len(flow)
            self.mean.add(warp_differences(window.edit_run, flow, chosen))


class ForegroundWarpError(_PartOfWarpError):
    """Warp error over foreground places only: those inside the mask of the first frame of each pair.

    As `warp_error`. The motion is the SOURCE's: where the edit was to change the shape or the motion of something, it
    does not apply.
    """

    label = "foreground warp error"
    empty = "no marked place stays in view from one frame to the next"

    def counts(self, background: Bool[Tensor, "frames 1 height width"]) -> Visible:
        """Return which places count: those inside the mask."""
        return ~background


class BackgroundWarpError(_PartOfWarpError):
    """Warp error over background places only: those outside the mask of the first frame of each pair.

    As `warp_error`.
    """

    label = "background warp error"
    empty = "no place of the background stays in view from one frame to the next"

    def counts(self, background: Bool[Tensor, "frames 1 height width"]) -> Visible:
        """Return which places count: those outside the mask."""
        return background


def marked_square(
    frame: Float[Tensor, "3 height width"], marked: Bool[Tensor, "1 height width"]
) -> Float[Tensor, "3 side side"]:
    """Return the smallest square around the marked pixels of one frame, black where nothing is marked; there must be
    some.

    Where it cannot be centred on them exactly it reaches one pixel more to the right or downwards.
    """
    rows, columns = (marked[0].any(axis).nonzero()[:, 0] for axis in (1, 0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    box = torch.where(marked, frame, 0)[:, top:bottom, left:right]
    height, width = bottom - top, right - left
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return functional.pad(box, (before, side - width - before, above, side - height - above))


def _foreground(window: Window) -> Bool[Tensor, "frames 1 height width"]:
    assert window.background is not None
    return ~window.background
