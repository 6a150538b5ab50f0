"""The network of FID: Inception v3 as the FID of papers has it (Szegedy et al., arXiv:1512.00567; Heusel et al.,
arXiv:1706.08500)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evenreel.backbones import safetensors_file
from evenreel.backbones.devices import choose_device
from evenreel.errors import WeightsError
from evenreel.types import Frames

SIDE = 299
"""Pixels of the squares that it sees."""
FEATURES = 2048
IGNORED = ("fc.", "AuxLogits.")
"""What a file may hold besides: classifiers, which FID does not use."""

Maps = Float[Tensor, "frames _ _ _"]


Branches = Mapping[str, Sequence[tuple[int, int | tuple[int, int], int]]]
"""For each name (channels, kernel, stride) of its convolutions."""


class Conv(nn.Module):
    """A convolution without a bias, normalised by the statistics of its training, and rectified."""

    def __init__(
        self, before: int, after: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = False
    ) -> None:
        super().__init__()
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (rows // 2, columns // 2) if pad else 0
        self.conv = nn.Conv2d(before, after, (rows, columns), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Maps) -> Maps:
        """Return its features."""
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, whose features are joined in the order in which they are told.

    A branch is a chain of convolutions by name; the last of them may be two, which both see the one before. `pool` is
    what a branch is made of that begins with pooling: `average` (without what lies beyond the border), `largest`.
    """

    def __init__(
        self,
        before: int,
        branches: Branches,
        pooled: int | None,
        pool: str,
        forks: frozenset[str] = frozenset(),
    ) -> None:
        """`branches`: for each name (channels, kernel, stride) of its convolutions; `pooled`: channels after pooling,
        None where pooling halves the size and nothing follows it."""
        super().__init__()
        self._pool, self._pooled = pool, pooled
        self._chains: list[list[str]] = []
        self._forks = forks
        for name, chain in branches.items():
            width, names = before, list[str]()
            for number, (after, kernel, stride) in enumerate(chain, 1):
                pad = stride == 1 and kernel != 1
                if name in forks and number > len(chain) - 2:
                    step = len(chain) - 1
                    letter = "ab"[number - len(chain) + 1]
                    full = f"{name}_{step}{letter}"
                    self.add_module(full, Conv(width, after, kernel, stride, pad))
                else:
                    full = name if len(chain) == 1 else f"{name}_{number}"
                    self.add_module(full, Conv(width, after, kernel, stride, pad))
                    width = after
                names.append(full)
            self._chains.append(names)
        if pooled is not None:
            self.branch_pool = Conv(before, pooled, 1)

    def forward(self, x: Maps) -> Maps:
        """Return the joined features."""
        found: list[Tensor] = []
        for names in self._chains:
            forked = names[-2:] if names[-1].endswith("b") else []
            y = x
            for name in names[: len(names) - len(forked)]:
                y = self.get_submodule(name)(y)
            found.extend([self.get_submodule(name)(y) for name in forked] or [y])
        if self._pooled is None:
            return torch.cat([*found, functional.max_pool2d(x, 3, 2)], 1)
        if self._pool == "average":
            pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        else:
            pooled = functional.max_pool2d(x, 3, 1, 1)
        return torch.cat([*found, self.branch_pool(pooled)], 1)


def _a(before: int, pooled: int) -> Mixed:
    branches = {
        "branch1x1": [(64, 1, 1)],
        "branch5x5": [(48, 1, 1), (64, 5, 1)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 1), (96, 3, 1)],
    }
    return Mixed(before, branches, pooled, "average")


def _b(before: int) -> Mixed:
    branches = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1, 1), (96, 3, 1), (96, 3, 2)]}
    return Mixed(before, branches, None, "largest")


def _c(before: int, inner: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    branches = {
        "branch1x1": [(192, 1, 1)],
        "branch7x7": [(inner, 1, 1), (inner, row, 1), (192, column, 1)],
        "branch7x7dbl": [
            (inner, 1, 1),
            (inner, column, 1),
            (inner, row, 1),
            (inner, column, 1),
            (192, row, 1),
        ],
    }
    return Mixed(before, branches, 192, "average")


def _d(before: int) -> Mixed:
    branches = {
        "branch3x3": [(192, 1, 1), (320, 3, 2)],
        "branch7x7x3": [(192, 1, 1), (192, (1, 7), 1), (192, (7, 1), 1), (192, 3, 2)],
    }
    return Mixed(before, branches, None, "largest")


def _e(before: int, pool: str) -> Mixed:
    row, column = (1, 3), (3, 1)
    branches = {
        "branch1x1": [(320, 1, 1)],
        "branch3x3": [(384, 1, 1), (384, row, 1), (384, column, 1)],
        "branch3x3dbl": [(448, 1, 1), (384, 3, 1), (384, row, 1), (384, column, 1)],
    }
    return Mixed(before, branches, 192, pool, forks=frozenset({"branch3x3", "branch3x3dbl"}))


class Inception(nn.Module):
    """Inception v3 up to its last pooling, with what the network of FID does otherwise than torchvision's: averages
    leave out what lies beyond the border, and the last block takes the largest."""

    name: str
    """The file it was loaded from."""
    fingerprint: str
    """SHA-256 of that file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, pad=True)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _c(768, inner) for inner in (128, 160, 160, 192)
        )
        self.Mixed_7a = _d(768)
        self.Mixed_7b, self.Mixed_7c = _e(1280, "average"), _e(2048, "largest")

    @classmethod
    def load(cls, path: Path, *, device: str | torch.device | None = None) -> "Inception":
        """Return weights from one safetensors file, by the names of torchvision and of `pytorch-fid`
        (`Mixed_5b.branch1x1.conv.weight`, `...bn.running_mean`); classifiers are ignored.

        Raises: WeightsError for a file that lacks one of them, holds others, or is damaged.
        """
        found, network = safetensors_file.load(path), cls()
        wanted = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
        told = {
            name: tensor
            for name, tensor in found.items()
            if not name.startswith(IGNORED) and "num_batches" not in name
        }
        if different := sorted(wanted.keys() ^ told.keys()):
            raise WeightsError(
                f"{path}: is not an Inception v3 ({different[0]:.60}); docs/metrics.md says how to make this file."
            )
        for name, tensor in wanted.items():
            if tensor.shape != told[name].shape or not bool(torch.isfinite(told[name]).all()):
                raise WeightsError(
                    f"{path}: {name} is of another shape than Inception's, or not finite; fetch the weights again."
                )
            tensor.copy_(told[name])
        network.name, network.fingerprint = str(path), safetensors_file.sha256(path)
        return network.eval().requires_grad_(False).to(choose_device(device))

    def forward(self, x: Maps) -> Float[Tensor, "frames 2048"]:
        """Return features of pictures in [-1, 1], 299 x 299: what is pooled last."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = functional.max_pool2d(x, 3, 2)
        for block in (
            *(self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c),
            *(self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c),
        ):
            x = block(x)
        return x.mean((2, 3))

    @torch.inference_mode()
    def embed_frames(self, frames: Frames) -> Float[Tensor, "frames 2048"]:
        """Return features of frames in [0, 1] of any size.

        They are resized to 299 x 299 bilinearly and without antialiasing, as `pytorch-fid` has it.
        """
        weight = self.Conv2d_1a_3x3.conv.weight
        pictures = functional.interpolate(
            frames.to(weight), (SIDE, SIDE), mode="bilinear", align_corners=False
        )
        return self(2 * pictures - 1).float().cpu()
