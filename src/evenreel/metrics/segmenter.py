"""A network that says where the main object of a picture of the world is; it shares nothing with the editing model."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from evenreel.backbones import mini, safetensors_file
from evenreel.metrics.residual_block import ResidualBlock
from evenreel.types import Frames

SIZE = 128
"""Pictures are looked at in this resolution."""
BATCH = 32
"""Pictures that pass through the network together."""

Mask = Bool[Tensor, "frames 1 height width"]
"""Which pixels show the object, to a half at least."""


class Segmenter(nn.Module):
    """Says for each pixel whether it shows the main object: a small U-Net (Ronneberger et al., arXiv:1505.04597).

    Its finest level works on squares of 2 x 2 pixels (as channels), which is a quarter of the work.
    """

    WIDTHS = (24, 32, 48, 64, 72)

    def __init__(self) -> None:
        super().__init__()
        widths = self.WIDTHS
        self.conv_in = nn.Conv2d(12, widths[0], 3, 1, 1)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(ResidualBlock(inside, outside, 2) for inside, outside in pairs)
        self.middle = ResidualBlock(widths[-1], widths[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(outside, inside, 1) for inside, outside in reversed(pairs))
        self.up = nn.ModuleList(ResidualBlock(inside, inside) for inside, _ in reversed(pairs))
        self.conv_out = nn.Conv2d(widths[0], 4, 3, 1, 1)

    def forward(self, frames: Frames) -> Float[Tensor, "frames 1 height width"]:
        """Return scores: above zero where the object is. Frames of SIZE x SIZE."""
        x = self.conv_in(functional.pixel_unshuffle(2 * frames - 1, 2))
        levels = []
        for block in self.down:
            levels.append(x)
            x = block(x)
        x = self.middle(x)
        for narrow, block in zip(self.narrow, self.up, strict=True):
            enlarged = functional.interpolate(narrow(x), scale_factor=2, mode="nearest")
            x = block(levels.pop() + enlarged)
        return functional.pixel_shuffle(self.conv_out(functional.silu(x)), 2)

    @classmethod
    def load(cls, path: Path) -> "Segmenter":
        """Read trained weights, in float32, ready to look. Raises: WeightsError when the file is damaged."""
        segmenter = cls()
        segmenter.load_state_dict(
            {name: value.float() for name, value in safetensors_file.load(path).items()}
        )
        # Channels last: half the time of convolutions so narrow, on a CPU.
        return segmenter.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.inference_mode()
    def masks(self, frames: Frames) -> Mask:
        """Return where the main object is seen; frames of another size are looked at in SIZE x SIZE, and the mask
        enlarged.
        """
        size = frames.shape[-2:]
        found = []
        for part in frames.split(BATCH):
            fitted = _resized(part, (SIZE, SIZE)).contiguous(memory_format=torch.channels_last)
            found.append(_resized(self(fitted), (size[0], size[1])) > 0)
        return torch.cat(found)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def mask_iou(masks: Tensor, others: Tensor) -> Float[Tensor, " frames"]:
    """Return the intersection over union of each pair of masks, (frames 1 height width), Boolean or shares of pixels in
    [0, 1].

    Of shares it is the sum of the smaller ones over that of the larger ones. Two empty masks have 1.
    """
    one, other = masks.flatten(1).float(), others.flatten(1).float()
    both, either = torch.minimum(one, other).sum(1), torch.maximum(one, other).sum(1)
    return torch.where(either > 0, both / either.clamp_min(1e-9), 1.0)


@cache
def packaged_segmenter() -> Segmenter:
    """Return the segmenter that comes with the mini model, loaded once."""
    return Segmenter.load(mini.FOLDER / "segmenter.safetensors")
