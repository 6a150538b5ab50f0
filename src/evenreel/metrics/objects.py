"""The main object of clips of the world, a ring around it and the rest, each measured by itself.

What flickers in an edit is mostly the object's outline. Over whole frames it is lost among what stands still, and over
a mask of source and answer together it is mixed with both. Here the parts are those of the right answer, frame by
frame, and so is the motion.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from evenreel.metrics.answer import Known, Parts, Region
from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.fidelity import TruthPsnr
from evenreel.metrics.segmenter import Mask, mask_iou
from evenreel.metrics.temporal import ONE_FRAME, warp_differences
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.ops.warp import Flow, flow_grid, warp_back
from evenreel.types import Frames


def motion_ious(masks: Mask, flow: Flow) -> Tensor:
    """Return the IoU of each mask and the next one brought back along `flow`; 0 where there is nothing in both.

    Places that leave the picture do not count.
    """
    _, inside = flow_grid(flow)
    before = masks[:-1] & inside
    after = (warp_back(masks[1:].float(), flow) > 0.5) & inside
    some = (before | after).flatten(1).any(1)
    return torch.where(some, mask_iou(before, after), 0.0)


class ObjectMotionIou(Metric):
    """World only: mean IoU of the object's mask in each edited frame and in the next one, brought back along the motion
    of the right answer's object.

    The object is what the packaged segmenter sees. The motion is that of the object wherever its mask is, so that what
    is drawn too large moves with it. Pixels that leave the picture do not count. Frames without an object have 0. A
    shape that is another one in each frame lowers it, and so does a frozen clip of something that moves; blur does not.
    """

    label = "object's IoU along its motion"
    family = "world"
    better = "higher"
    needs = ("answer", "truth")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean, self.of_truth = Mean(), Mean()

    def add(self, window: Window) -> None:
        """Look at the pairs of neighbouring frames of a window."""
        if len(window.edit_run) > 1:
            flow = window.known.object_flow
            self.mean.add(motion_ious(window.objects, flow))
            self.of_truth.add(motion_ious(window.objects_of_truth, flow))

    def value(self) -> float:
        """Return the mean over pairs of neighbours."""
        return self.mean.value(ONE_FRAME)

    @property
    def note(self) -> str:
        """What can be reached."""
        return f"the right answer has {self.of_truth.value(ONE_FRAME):.3f}"


class _PartOfTruthPsnr(TruthPsnr):
    """`truth_psnr` over a part of each frame."""

    family = "world"
    needs = ("truth", "answer")

    @abstractmethod
    def part(self, parts: Parts) -> Region:
        """Return the part that is compared."""

    def errors(self, window: Window) -> Tensor:
        """Of the part, in the window's own frames."""
        errors = super().errors(window)
        return errors[self.part(window.known.parts)[-len(errors) :].expand_as(errors)]


class ObjectTruthPsnr(_PartOfTruthPsnr):
    """World only: peak signal-to-noise ratio of the edit against the right answer, over the pixels that show the right
    answer's main object.

    As `truth_psnr`; a pixel counts that shows the object to a half at least.
    """

    label = "object's truth PSNR"
    empty = "the right answer's object is never in the picture"

    def part(self, parts: Parts) -> Region:
        """Return the object's pixels, as a mask."""
        return parts.object


class RingTruthPsnr(_PartOfTruthPsnr):
    """World only: peak signal-to-noise ratio of the edit against the right answer, over the ring of 8 pixels around
    the right answer's main object.

    As `truth_psnr`. The ring holds what is not the object and at most 8 pixels from it, across, down or diagonally.
    """

    label = "ring's truth PSNR"
    empty = "there is nothing around the right answer's object"

    def part(self, parts: Parts) -> Region:
        """Return the pixels of the ring around the object, as a mask."""
        return parts.ring


class RestTruthPsnr(_PartOfTruthPsnr):
    """World only: peak signal-to-noise ratio of the edit against the right answer, over all that is more than 8 pixels
    away from the right answer's main object.

    As `truth_psnr`.
    """

    label = "rest's truth PSNR"
    empty = "nothing is more than 8 pixels away from the right answer's object"

    def part(self, parts: Parts) -> Region:
        """Return what is neither object nor ring."""
        return parts.rest


class _PartOfAnswersWarpError(Metric):
    """Warp error along the right answer's motion, over a part of each frame."""

    family = "world"
    better = "lower"
    shown_in = 1e-3
    needs = ("answer", "truth")
    empty = ""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean, self.of_truth, self.pairs = Mean(), Mean(), 0

    @abstractmethod
    def part(self, parts: Parts) -> Region:
        """Return the part that is compared."""

    def add(self, window: Window) -> None:
        """Look at the window's pairs; a pair's places are those of its first frame."""
        if len(window.edit_run) > 1:
            self.pairs += 1
            self.mean.add(self._differences(window.edit_run, window.known))
            self.of_truth.add(self._differences(window.truth_run, window.known))

    def _differences(self, frames: Frames, known: Known) -> Tensor:
        return warp_differences(frames, known.flow, known.visible & self.part(known.parts)[:-1])

    def value(self) -> float:
        """Return the mean over all places that count."""
        if not self.pairs:
            raise UnavailableError(ONE_FRAME)
        return self.mean.value(self.empty)

    @property
    def note(self) -> str:
        """What the right answer itself has: edges are sampled anew in each frame."""
        return f"the right answer has {self.of_truth.value(self.empty):.3g}"


class ObjectWarpError(_PartOfAnswersWarpError):
    """World only: warp error along the RIGHT ANSWER's flow, over the places that show its main object.

    As `warp_error`, but with the motion and the occlusions of the right answer: where the edit changes a shape, the
    source's motion is that of something else. A pair's places are those of its first frame.
    """

    label = "object's warp error"
    empty = "no place of the right answer's object stays in view from one frame to the next"

    def part(self, parts: Parts) -> Region:
        """Return the object's pixels, as a mask."""
        return parts.object


class RingWarpError(_PartOfAnswersWarpError):
    """World only: warp error along the RIGHT ANSWER's flow, over the ring of 8 pixels around its main object.

    As `object_warp_error`; the ring is that of `ring_truth_psnr`.
    """

    label = "ring's warp error"
    empty = "no place around the right answer's object stays in view from one frame to the next"

    def part(self, parts: Parts) -> Region:
        """Return the pixels of the ring around the object, as a mask."""
        return parts.ring


class RestWarpError(_PartOfAnswersWarpError):
    """World only: warp error along the RIGHT ANSWER's flow, over all that is more than 8 pixels away from its main
    object.

    As `object_warp_error`.
    """

    label = "rest's warp error"
    empty = "no place away from the right answer's object stays in view from one frame to the next"

    def part(self, parts: Parts) -> Region:
        """Return what is neither object nor ring."""
        return parts.rest
