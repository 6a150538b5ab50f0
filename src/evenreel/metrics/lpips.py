"""The network of LPIPS: AlexNet's features with learned weights of their channels (Zhang et al., arXiv:1801.03924)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evenreel.backbones import safetensors_file
from evenreel.backbones.devices import choose_device
from evenreel.errors import WeightsError
from evenreel.types import Frames

LAYERS = (
    # number in torchvision's `features`, channels in and out, kernel, stride, padding
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
POOLED = (1, 2)
"""Layers before which features are max-pooled, 3 x 3 with stride 2."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Normalisation of inputs in [-1, 1]."""
SMALLEST = 31
"""Pixels of the shorter side below which nothing reaches the last layer."""


class Lpips(nn.Module):
    """LPIPS 0.1 on AlexNet. Frames come in [0, 1] and are scaled to [-1, 1] inside."""

    shift: Tensor
    scale: Tensor
    name: str
    """The file it was loaded from."""
    fingerprint: str
    """SHA-256 of that file."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(*layer[1:]) for layer in LAYERS)
        self.channels = nn.ParameterList(torch.zeros(1, layer[2], 1, 1) for layer in LAYERS)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    @classmethod
    def load(cls, path: Path, *, device: str | torch.device | None = None) -> "Lpips":
        """Return weights from one safetensors file, by the names of torchvision and of the `lpips` package:

        - convolutions: `features.N.weight` and `.bias`, N = 0, 3, 6, 8, 10 (or `net.sliceK.N.weight`, K = 1 to 5);
        - weights of channels: `linK.model.1.weight` of shape (1, channels, 1, 1), K = 0 to 4.

        Other names are ignored. Raises: WeightsError for a file that lacks one of them or is damaged.
        """
        found, network = safetensors_file.load(path), cls()
        with torch.no_grad():
            for k, ((number, *_), convolution) in enumerate(zip(LAYERS, network.convolutions, strict=True)):
                names = (f"features.{number}", f"net.slice{k + 1}.{number}")
                for part, parameter in convolution.named_parameters():
                    parameter.copy_(_taken(path, found, [f"{name}.{part}" for name in names], parameter))
                network.channels[k].copy_(
                    _taken(path, found, [f"lin{k}.model.1.weight"], network.channels[k])
                )
        network.name, network.fingerprint = str(path), safetensors_file.sha256(path)
        return network.eval().requires_grad_(False).to(choose_device(device))

    def features(self, frames: Frames) -> list[Float[Tensor, "frames _ _ _"]]:
        """Return activations of the five layers, at each place scaled to length one."""
        x = (2 * frames.to(self.shift.device) - 1 - self.shift) / self.scale
        found: list[Tensor] = []
        for k, convolution in enumerate(self.convolutions):
            if k in POOLED:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.relu(convolution(x))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    @torch.inference_mode()
    def distances(self, frames: Frames, others: Frames) -> Float[Tensor, "frames"]:
        """Return one distance for each pair: the sum over layers of the mean over places."""
        maps = self._maps(frames, others)
        return torch.stack([layer.mean((1, 2, 3)) for layer in maps]).sum(0).cpu()

    @torch.inference_mode()
    def distance_maps(self, frames: Frames, others: Frames) -> Float[Tensor, "frames 1 height width"]:
        """Return the distance at each pixel: layers are enlarged bilinearly to the size of the frames, then added."""
        size = frames.shape[2:]
        enlarged = [
            functional.interpolate(layer, size, mode="bilinear", align_corners=False)
            for layer in self._maps(frames, others)
        ]
        return torch.stack(enlarged).sum(0).cpu()

    def _maps(self, frames: Frames, others: Frames) -> list[Float[Tensor, "frames 1 _ _"]]:
        pairs = zip(self.features(frames), self.features(others), self.channels, strict=True)
        return [((x - y).square() * weight).sum(1, keepdim=True) for x, y, weight in pairs]


def _taken(path: Path, found: Mapping[str, Tensor], names: list[str], like: Tensor) -> Tensor:
    for name in names:
        if name in found:
            if found[name].shape != like.shape:
                raise WeightsError(
                    f"{path}: {name} has the shape {tuple(found[name].shape)} and LPIPS on AlexNet wants "
                    f"{tuple(like.shape)}; give the weights of AlexNet."
                )
            if not bool(torch.isfinite(found[name]).all()):
                raise WeightsError(f"{path}: {name} holds NaN or infinite weights; fetch them again.")
            return found[name]
    raise WeightsError(
        f"{path}: has no {' or '.join(names)}; docs/metrics.md says how to make this file from the lpips package."
    )
