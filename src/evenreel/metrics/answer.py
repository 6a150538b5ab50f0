"""What is known of the right answer of an edit besides its frames: where its main object is, and how it moves."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.flow import EstimatedFlow
from evenreel.metrics.segmenter import packaged_segmenter
from evenreel.ops.warp import Flow, Visible
from evenreel.types import Frames

RING = 8
"""Pixels around the object that are looked at by themselves: there old outlines linger and new ones flicker."""

Region = Bool[Tensor, "frames 1 height width"]


@dataclass(frozen=True)
class Parts:
    """A picture in three parts that have nothing in common: the object, a ring around it, the rest."""

    object: Region
    """Pixels that show the right answer's main object to a half at least."""
    ring: Region
    """Pixels at most RING pixels away from it, across, down or on the diagonal."""
    rest: Region
    """All others."""

    @classmethod
    def around(cls, masks: Float[Tensor, "frames 1 height width"]) -> "Parts":
        """Return the parts of pictures of which the main object's share in each pixel is known."""
        inside = masks >= 0.5
        near = functional.max_pool2d(inside.float(), 2 * RING + 1, 1, RING) > 0
        return cls(inside, near & ~inside, ~near)


@dataclass(frozen=True)
class Known:
    """The right answer in a run of frames, and between each of them and the next."""

    parts: Parts
    """One row for each frame."""
    flow: Flow
    """How what is seen in the right answer moves; one row for each pair."""
    visible: Visible
    """Where that holds."""
    object_flow: Flow
    """How every place would move as part of the object, also around it, where a drawing may reach too far."""


@runtime_checkable
class Answer(Protocol):
    """Anything that knows the right answer."""

    name: str
    """For people: where the knowledge comes from."""

    def between(self, run: Frames, first: int) -> Known:
        """Return what is known of the right answer's frames `run`; `first` is the number of the first of them."""
        ...


class ExactAnswer:
    """The right answer as it was rendered: exact masks and motion of a whole clip, in memory."""

    name = "exact"

    def __init__(
        self,
        masks: Float[Tensor, "frames 1 height width"],
        flow: Flow,
        visible: Visible,
        object_flow: Flow,
    ) -> None:
        """masks: shares of each pixel that show the main object; the others have one row for each pair of frames."""
        self.masks, self.flow, self.visible, self.object_flow = masks, flow, visible, object_flow

    def between(self, run: Frames, first: int) -> Known:
        """Return the rows of these frames."""
        end = first + len(run)
        pairs = slice(first, end - 1)
        return Known(
            Parts.around(self.masks[first:end]),
            self.flow[pairs],
            self.visible[pairs],
            self.object_flow[pairs],
        )


class SeenAnswer:
    """The right answer of the world of which there is a clip alone: the segmenter finds its object, OpenCV its motion.

    The object's own motion is the shift, turn and growth that fits best to the flow inside it.
    """

    def __init__(self) -> None:
        """Raises ImportError where OpenCV is not installed."""
        self._flow = EstimatedFlow()
        self.name = f"its object as the packaged segmenter sees it, motion {self._flow.name}"

    def between(self, run: Frames, first: int) -> Known:
        """Find the object in the frames `run`, whose first has the number `first`, and how it moves between them."""
        masks = packaged_segmenter().masks(run)
        flow, visible = self._flow.between(run, first)
        return Known(Parts.around(masks.float()), flow, visible, rigid_flow(flow, visible & masks[:-1]))


def rigid_flow(flow: Flow, places: Visible) -> Flow:
    """Return the shift, turn and growth that fit best to a flow at some places, as a flow of the whole picture.

    Least squares, then once more without the places that are off by more than twice the median (and half a pixel). A
    pair with fewer than two such places has zero.
    """
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - height / 2,
        torch.arange(width, dtype=torch.float64) - width / 2,
        indexing="ij",
    )
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # d = (a x - b y + c, b x + a y + d): what a point moves in a similarity that is the identity at zero
    design = torch.stack([torch.stack([x, -y, one, zero], -1), torch.stack([y, x, zero, one], -1)])
    found = torch.zeros_like(flow)
    for pair, (field, chosen) in enumerate(zip(flow.double(), places[:, 0], strict=True)):
        for _ in range(2):
            if chosen.sum() < 2:
                break
            fit = torch.linalg.lstsq(design[:, chosen].flatten(0, 1), field[:, chosen].flatten()[:, None])
            everywhere = (design @ fit.solution)[..., 0]
            found[pair] = everywhere.float()
            off = (everywhere - field).norm(dim=0)
            chosen = chosen & (off <= 2 * off[chosen].median() + 0.5)
    return found
