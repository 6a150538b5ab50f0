"""How far away things are, as a Depth Anything sees it in single frames (arXiv:2401.10891, arXiv:2406.09414)."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import PartFolder
from evenreel.backbones.vision import IMAGENET_MEAN, IMAGENET_STD, normalised, resized
from evenreel.backbones.weights import load_part
from evenreel.files import expanded
from evenreel.types import Frames

NEAREST = 1e-3
"""Metres below which a metric model's depth is not inverted."""
Nearness = Float[Tensor, "frames height width"]
"""Larger is nearer, in units of the model's own; comparable within a clip only."""


class DepthFolder(PartFolder):
    """A Depth Anything in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.1

    parts: Mapping[str, tuple[str, str]] = MappingProxyType(
        {"": ("DepthAnythingForDepthEstimation", "model")}
    )
    wanted = "a Depth Anything, for example depth-anything/Depth-Anything-V2-Small-hf"


class DepthModel:
    """A Depth Anything, of relative or of metric depth."""

    def __init__(self, folder: DepthFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import DepthAnythingForDepthEstimation

        folder.check()
        self.fingerprint = folder.fingerprint
        self._device = device
        self._model = load_part(folder, "", DepthAnythingForDepthEstimation, device, torch.float32)
        seen = self._model.config.backbone_config
        self._size, self._patch = _side(seen.image_size), _side(seen.patch_size)

    @torch.inference_mode()
    def nearness(self, frames: Frames) -> Nearness:
        """Return inverse depth of frames of any size, at their size.

        As published, the shorter side is resized (bicubic, antialiased, clamped) to the size that the model was trained
        at, the longer one in proportion, both to whole patches; ImageNet's mean and deviation are applied; what comes
        out is resized back.
        """
        height, width = frames.shape[2:]
        scale = self._size / min(height, width)
        rows, columns = (max(1, round(side * scale / self._patch)) * self._patch for side in (height, width))
        pictures = normalised(resized(frames, (rows, columns), "bicubic"), IMAGENET_MEAN, IMAGENET_STD)
        found = self._model(pictures.to(self._device)).predicted_depth.float().cpu()
        if self._model.config.depth_estimation_type == "metric":
            found = 1 / found.clamp(min=NEAREST)
        whole = interpolate(found[:, None], (height, width), mode="bicubic", align_corners=False)
        return whole[:, 0]


def load_depth(location: str, *, device: str | torch.device | None = None) -> DepthModel:
    """Load a Depth Anything from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    return DepthModel(DepthFolder(expanded(location)), device=choose_device(device))


def _side(size: int | list[int]) -> int:
    return size if isinstance(size, int) else size[0]
