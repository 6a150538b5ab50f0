"""An independent judge of what a picture of the world shows; it shares nothing with the editing model."""

from collections import Counter
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from evenreel.backbones import mini, safetensors_file
from evenreel.metrics.residual_block import ResidualBlock
from evenreel.types import Frames
from evenreel.world import ATTRIBUTES

SIZE = 64
"""Pictures are looked at in this resolution."""


class Judge(nn.Module):
    """Names each of the world's attributes: shape, colour and texture of the main object, background, style."""

    WIDTHS = (32, 64, 128, 192)

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, self.WIDTHS[0], 3, 1, 1)
        pairs = zip((self.WIDTHS[0], *self.WIDTHS), self.WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(ResidualBlock(inside, outside, 2) for inside, outside in pairs))
        self.last = ResidualBlock(self.WIDTHS[-1], self.WIDTHS[-1], 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * self.WIDTHS[-1], len(values)) for name, values in ATTRIBUTES.items()}
        )

    def forward(self, frames: Frames) -> dict[str, Tensor]:
        """Return scores (frames, values) of each attribute."""
        small = functional.interpolate(
            frames, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
        )
        features = self.last(self.blocks(self.conv_in(2 * small - 1)))
        pooled = torch.cat([features.mean((-2, -1)), features.amax((-2, -1))], dim=-1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @classmethod
    def load(cls, path: Path) -> "Judge":
        """Read trained weights, in float32, ready to judge. Raises: WeightsError when the file is damaged."""
        judge = cls()
        judge.load_state_dict({name: value.float() for name, value in safetensors_file.load(path).items()})
        return judge.eval()

    @torch.inference_mode()
    def verdicts(self, frames: Frames) -> list[dict[str, str]]:
        """Return the attributes that each frame seems to have."""
        scores = self(frames)
        best = {name: score.argmax(-1).tolist() for name, score in scores.items()}
        return [{name: ATTRIBUTES[name][best[name][i]] for name in ATTRIBUTES} for i in range(len(frames))]

    def verdict(self, frames: Frames) -> dict[str, str]:
        """Return the attributes that most frames of a clip seem to have."""
        each = self.verdicts(frames)
        return {name: Counter(verdict[name] for verdict in each).most_common(1)[0][0] for name in ATTRIBUTES}


@cache
def packaged_judge() -> Judge:
    """Return the judge that comes with the mini model, loaded once."""
    return Judge.load(mini.FOLDER / "judge.safetensors")
