"""Distances of two sets of pictures, seen through features of the CLIP or of the Inception that is given.

Those on Inception are the FID and KID of papers; names say what a distance rests on.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.metrics.base import Metric
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Embeddings, Inputs, Window

Features = Float[Tensor, "_ features"]
"""One row for each picture; two sets may differ in length."""


def frechet_distance(one: Features, other: Features) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of means and unbiased covariances (Heusel et al.,
    arXiv:1706.08500).

    With S = A^T A, the last trace is the sum of the singular values of A1 A2^T: exact also where there are fewer
    pictures than features. In double precision. Needs two pictures in each set.
    """
    one, other = one.double(), other.double()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    a, b = (
        torch.linalg.qr((found - found.mean(0)) / (len(found) - 1) ** 0.5, mode="r").R
        for found in (one, other)
    )
    shared = torch.linalg.svdvals(a @ b.mT).sum()
    distance = float(apart + a.square().sum() + b.square().sum() - 2 * shared)
    return max(0.0, distance)  # it is no less, but for rounding


def kernel_distance(one: Features, other: Features) -> float:
    """Return the unbiased squared MMD with the kernel (x y / features + 1)^3 (Binkowski et al., arXiv:1801.01401).

    A picture is not compared with itself within its own set; between the sets every pair counts. All pictures are used
    at once (no subsets). May be negative. Needs two pictures in each set.
    """
    one, other = one.double(), other.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.mT / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        values = kernel(x, x)
        return (values.sum() - values.diagonal().sum()) / (len(x) * (len(x) - 1))

    return float(within(one) + within(other) - 2 * kernel(one, other).mean())


class _OfFeatures(Metric):
    """A distance of all source frames and all edited frames."""

    family = "distribution"
    better = "lower"
    needs = ("clip",)

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.sources: list[Embeddings] = []
        self.edits: list[Embeddings] = []

    def add(self, window: Window) -> None:
        """Keep the features (2 kB a frame, on Inception 8)."""
        source, edit = self.features(window)
        self.sources.append(source)
        self.edits.append(edit)

    def features(self, window: Window) -> tuple[Embeddings, Embeddings]:
        """Return those of the source's frames, and of the edit's."""
        return window.clip_of_source, window.clip_of_edit

    def sets(self) -> tuple[Features, Features]:
        """Return all features of the source, all of the edit."""
        if self.count < 2:
            raise UnavailableError("the clip has one frame, and a distribution needs at least two")
        return torch.cat(self.sources), torch.cat(self.edits)

    @property
    def count(self) -> int:
        """Frames so far."""
        return sum(map(len, self.edits))


class FrechetClip(_OfFeatures):
    """Frechet distance of the SOURCE's frames and the edit's, on projected CLIP image embeddings (this is not FID,
    which rests on Inception).

    Heusel et al., arXiv:1706.08500, with unbiased covariances and embeddings as they come (not scaled to length one).
    Strongly biased upwards for few frames: two samples of one Gaussian are far apart until there are thousands.
    Prefer `kid_clip`.
    """

    label = "Frechet (CLIP)"

    def value(self) -> float:
        """Return the distance between the embeddings of all edited frames and of all the source's."""
        return frechet_distance(*self.sets())

    @property
    def note(self) -> str:
        """The warning that belongs to it."""
        return f"biased: from {self.count} frames; prefer kid_clip"


class KidClip(_OfFeatures):
    """Kernel distance (unbiased squared MMD, cubic kernel) of the SOURCE's frames and the edit's, on projected CLIP
    image embeddings (papers' KID rests on Inception).

    Binkowski et al., arXiv:1801.01401, all frames at once. Unbiased for any number of frames, so it may be negative;
    it is noisy for few.
    """

    label = "kernel distance (CLIP)"

    def value(self) -> float:
        """Return the distance between the embeddings of all edited frames and of all the source's."""
        return kernel_distance(*self.sets())


class _OfInception(_OfFeatures):
    needs = ("inception",)

    def features(self, window: Window) -> tuple[Embeddings, Embeddings]:
        """Return what Inception pools last of the source's frames, and of the edit's."""
        return window.inception_of_source, window.inception_of_edit


class FrechetInception(_OfInception):
    """FID: Frechet distance of the SOURCE's frames and the edit's, on the 2048 features that Inception v3 pools last.

    Heusel et al., arXiv:1706.08500, with unbiased covariances; frames are resized to 299 x 299 as `pytorch-fid` has it.
    Strongly biased upwards for few frames: with fewer frames than features it is mostly bias. Prefer
    `kid_inception`.
    """

    label = "FID (Inception)"

    def value(self) -> float:
        """Return the distance between the features of all edited frames and of all the source's."""
        return frechet_distance(*self.sets())

    @property
    def note(self) -> str:
        """The warning that belongs to it."""
        return f"biased: from {self.count} frames; prefer kid_inception"


class KidInception(_OfInception):
    """KID: kernel distance (unbiased squared MMD, cubic kernel) of the SOURCE's frames and the edit's, on the 2048
    features that Inception v3 pools last.

    Binkowski et al., arXiv:1801.01401, all frames at once. Unbiased for any number of frames, so it may be negative;
    it is noisy for few.
    """

    label = "KID (Inception)"

    def value(self) -> float:
        """Return the distance between the features of all edited frames and of all the source's."""
        return kernel_distance(*self.sets())
