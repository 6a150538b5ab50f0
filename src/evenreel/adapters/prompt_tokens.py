"""Tokens in front of the prompt (TSC of the GE-Adapter, arXiv:2501.04606, section 3.4): some that all frames share, and
some that tell what each frame of the source shows."""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from evenreel import random
from evenreel.adapters.settings import PromptTokenSettings
from evenreel.errors import WeightsError

VisionTokens = Float[Tensor, "frames patches vision"]
"""Last hidden states of a CLIP vision tower, before its final norm: the class token, then the patches."""

Prefix = Float[Tensor, "frames tokens features"]
"""What stands in front of a prompt, a row for each frame."""


class PromptTokens(nn.Module):
    """[shared ; projected tokens of a frame], to be put in front of the text for every branch of guidance (Eq. 15)."""

    def __init__(
        self,
        settings: PromptTokenSettings,
        width: int,
        vision_width: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """For prompts of `width` features and a vision tower of `vision_width`; `generator` draws the start: shared
        tokens N(0, 0.02), the projection by Xavier."""
        super().__init__()
        self.settings, self.width, self.vision_width = settings, width, vision_width
        self.shared = nn.Parameter(torch.empty(settings.shared, width))
        nn.init.normal_(self.shared, std=0.02, generator=generator)
        self.projection: nn.Linear | None = None
        if settings.select != "none":
            # made without numbers, lest it draw from the global generator
            self.projection = nn.Linear(vision_width, width, device="meta").to_empty(device="cpu")
            nn.init.xavier_uniform_(self.projection.weight, generator=generator)
            nn.init.zeros_(self.projection.bias)

    def only(self, *, shared: bool, frames: bool, weight: float | None = None) -> "PromptTokens":
        """Return the shared tokens, those of frames, or both, with the same numbers.

        `weight` is what those of frames are multiplied by; None as it is.
        """
        settings = replace(
            self.settings,
            shared=self.settings.shared if shared else 0,
            select=self.settings.select if frames else "none",
            weight=self.settings.weight if weight is None else weight,
        )
        few = PromptTokens(settings, self.width, self.vision_width, random.generator(0))
        if shared:
            few.shared = self.shared
        if frames:
            few.projection = self.projection
        return few

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, hidden: VisionTokens | None = None, frames: int = 1) -> Prefix:
        """Return tokens of frames that the vision tower saw; None (nobody saw any) leaves the shared ones, for
        `frames`.
        """
        count = frames if hidden is None else len(hidden)
        shared = self.shared.expand(count, -1, -1)
        if hidden is None or self.projection is None:
            return shared
        projected = self.projection(selected(hidden.to(shared), self.settings.select))
        return torch.cat([shared, self.settings.weight * projected], dim=1)

    def before(
        self, text: Float[Tensor, "frames words features"], hidden: VisionTokens | None = None
    ) -> Float[Tensor, "frames longer features"]:
        """Return prompts of frames with their tokens in front."""
        return prepended(self(hidden, len(text)), text)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take weights over, named as in `state_dict`. Raises: WeightsError unless all fit, and none is left over."""
        own = self.state_dict()
        if different := sorted(own.keys() ^ tensors.keys()):
            raise WeightsError(f"the prompt tokens do not fit their settings ({different[0]}).")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise WeightsError(
                    f"the prompt tokens' {name} must be of size {tuple(tensor.shape)}, "
                    f"got {tuple(tensors[name].shape)}."
                )
            tensor.copy_(tensors[name])


def selected(hidden: VisionTokens, select: str) -> Float[Tensor, "frames fewer vision"]:
    """Return about half of a frame's tokens.

    `average`: means of neighbours (0, 1), (2, 3), ...; a last one that is left over stays as it is (Eq. 13).
    `stride`: token 0, then 1, 3, 5, ...
    """
    if select == "stride":
        return torch.cat([hidden[:, :1], hidden[:, 1::2]], dim=1)
    pairs = hidden.shape[1] // 2 * 2
    averaged = rearrange(hidden[:, :pairs], "f (n two) c -> f n two c", two=2).mean(2)
    return torch.cat([averaged, hidden[:, pairs:]], dim=1)


def prepended(
    prefix: Prefix, text: Float[Tensor, "frames words features"]
) -> Float[Tensor, "frames longer features"]:
    """Return prompts with tokens in front, both with a row for each frame."""
    return torch.cat([prefix.to(text), text], dim=1)
