"""Whether the layout stayed: self-similarity of DINO's keys."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.window import Inputs, Window


def self_similarity(keys: Float[Tensor, "tokens channels"]) -> Float[Tensor, "tokens tokens"]:
    """Return cosines of all pairs of tokens."""
    keys = functional.normalize(keys, dim=-1, eps=1e-8)
    return keys @ keys.mT


class StructureDistance(Metric):
    """Mean over frames of the mean squared difference of the SOURCE's and the edit's key self-similarities in DINO.

    Tumanyan et al., arXiv:2201.00424: keys of the last layer, all heads joined, class token included. Preprocessing is
    pinned in `VisionTransformer.keys`. Papers often print it times 1000.
    """

    label = "structure distance"
    family = "structure"
    better = "lower"
    needs = ("dino",)

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean = Mean()

    def add(self, window: Window) -> None:
        """Compare frame by frame: the similarities of one take megabytes."""
        model = self.inputs.dino
        assert model is not None
        for source, edit in zip(window.source, window.edit, strict=True):
            one, other = model.keys(torch.stack([source, edit]))
            self.mean.add((self_similarity(one) - self_similarity(other)).square().mean())

    def value(self) -> float:
        """Return the mean over all frames."""
        return self.mean.value("the clip has no frames")
