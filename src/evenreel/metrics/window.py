"""What metrics look at: windows of frames of a source and its edit, and what is known besides."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from evenreel.backbones.clip import ClipModel
from evenreel.backbones.vision import VisionTransformer
from evenreel.metrics.answer import Answer, Known
from evenreel.metrics.flow import FlowSource
from evenreel.metrics.inception import Inception
from evenreel.metrics.judge import packaged_judge
from evenreel.metrics.lpips import Lpips
from evenreel.metrics.segmenter import Mask, packaged_segmenter
from evenreel.ops.warp import Flow, Visible
from evenreel.types import Frames

Background = Bool[Tensor, "frames 1 height width"]
"""Which pixels the edit was not to touch."""

Embeddings = Float[Tensor, "frames features"]

LENGTH = 16
"""Frames of a window where memory does not ask for fewer."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is known besides the two clips; what was not given is None or False."""

    prompt: str | None = None
    """What the edit was to show."""
    source_prompt: str | None = None
    """What the source shows."""
    mask: bool = False
    """Whether windows say which pixels are background."""
    truth: bool = False
    """Whether windows hold the right answer."""
    answer: Answer | None = None
    """What is known of the right answer besides its frames."""
    flow: FlowSource | None = None
    """How the source moves."""
    clip: ClipModel | None = None
    lpips: Lpips | None = None
    dino: VisionTransformer | None = None
    inception: Inception | None = None


class Part(NamedTuple):
    """Some consecutive frames, as they were read; all of one size."""

    source: Frames
    edit: Frames
    background: Background | None = None
    truth: Frames | None = None


class Window:
    """A part of the two clips and what follows from it; computed when first asked for, and shared by all metrics.

    A `run` is the window with the frame before it, so that no pair of neighbours is lost between windows. It has one
    frame more than the window, except at the clip's beginning.
    """

    def __init__(self, part: Part, inputs: Inputs, first: int = 0, before: Part | None = None) -> None:
        """`first` is the number of the first frame, `before` the part (or its last frame) that ends just there."""
        self.source, self.edit, self.background, self.truth = part
        self.inputs, self.first, self._before = inputs, first, before

    @cached_property
    def source_run(self) -> Frames:
        """The source's frames, after the one before them."""
        return self.source if self._before is None else torch.cat([self._before.source[-1:], self.source])

    @cached_property
    def edit_run(self) -> Frames:
        """The edit's frames, after the one before them."""
        return self.edit if self._before is None else torch.cat([self._before.edit[-1:], self.edit])

    @cached_property
    def truth_run(self) -> Frames:
        """The right answer's frames, after the one before them. Needs `truth`."""
        assert self.truth is not None
        if self._before is None:
            return self.truth
        assert self._before.truth is not None
        return torch.cat([self._before.truth[-1:], self.truth])

    @cached_property
    def background_run(self) -> Background | None:
        """The background, after that of the frame before."""
        if self._before is None or self.background is None:
            return self.background
        assert self._before.background is not None
        return torch.cat([self._before.background[-1:], self.background])

    @cached_property
    def motion(self) -> tuple[Flow, Visible]:
        """The source's flow between the frames of its run, and where it holds. Needs `flow`."""
        assert self.inputs.flow is not None
        return self.inputs.flow.between(self.source_run, self.first + len(self.source) - len(self.source_run))

    @cached_property
    def known(self) -> Known:
        """What is known of the right answer in the frames of the run. Needs `answer` and `truth`."""
        assert self.inputs.answer is not None
        run = self.truth_run
        return self.inputs.answer.between(run, self.first + len(self.source) - len(run))

    @cached_property
    def objects(self) -> Mask:
        """Where the segmenter sees the main object in the edit's run."""
        return packaged_segmenter().masks(self.edit_run)

    @cached_property
    def objects_of_truth(self) -> Mask:
        """Where the segmenter sees the main object in the right answer's run. Needs `truth`."""
        return packaged_segmenter().masks(self.truth_run)

    @cached_property
    def clip_of_source(self) -> Embeddings:
        """CLIP's projected embeddings of the source's frames. Needs `clip`."""
        assert self.inputs.clip is not None
        return self.inputs.clip.embed_frames(self.source)

    @cached_property
    def clip_of_edit(self) -> Embeddings:
        """CLIP's projected embeddings of the edit's frames. Needs `clip`."""
        assert self.inputs.clip is not None
        return self.inputs.clip.embed_frames(self.edit)

    @cached_property
    def inception_of_source(self) -> Embeddings:
        """Inception's features of the source's frames. Needs `inception`."""
        assert self.inputs.inception is not None
        return self.inputs.inception.embed_frames(self.source)

    @cached_property
    def inception_of_edit(self) -> Embeddings:
        """Inception's features of the edit's frames. Needs `inception`."""
        assert self.inputs.inception is not None
        return self.inputs.inception.embed_frames(self.edit)

    @cached_property
    def verdicts(self) -> list[dict[str, str]]:
        """What the judge of the world sees in each frame of the edit."""
        return packaged_judge().verdicts(self.edit)


def windows(parts: Iterable[Part], inputs: Inputs) -> Iterator[Window]:
    """Yield parts that follow each other, as windows."""
    first, before = 0, None
    for part in parts:
        yield Window(part, inputs, first, before)
        first += len(part.source)
        marked, truth = (
            None if rows is None else rows[-1:].clone() for rows in (part.background, part.truth)
        )
        before = Part(part.source[-1:].clone(), part.edit[-1:].clone(), marked, truth)


def cut(
    source: Frames,
    edit: Frames,
    background: Background | None = None,
    truth: Frames | None = None,
    length: int = LENGTH,
) -> Iterator[Part]:
    """Yield clips in memory as parts."""
    for i in range(0, len(source), length):
        end = i + length
        yield Part(
            source[i:end],
            edit[i:end],
            None if background is None else background[i:end],
            None if truth is None else truth[i:end],
        )
