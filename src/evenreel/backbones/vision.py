"""Vision transformers that look at frames: preprocessing, and the keys of a DINO."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import PartFolder
from evenreel.backbones.hooks import forward_hooked
from evenreel.backbones.weights import load_part
from evenreel.files import expanded
from evenreel.types import Frames

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LONGEST = 480 / 224
"""Longer side of what DINO sees, over the size that it was trained at."""

Resized = Float[Tensor, "frames 3 new_height new_width"]
"""`Frames`, where they stand beside frames of another size."""


class VitFolder(PartFolder):
    """A ViT without a head, in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.6

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("ViTModel", "model")})
    wanted = "a DINO, for example facebook/dino-vitb8"


class VisionTransformer:
    """A ViT whose keys say what is where."""

    def __init__(self, folder: VitFolder, *, name: str, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import ViTModel

        folder.check()
        self.name, self.device, self.fingerprint = name, device, folder.fingerprint
        # DINO was trained without the pooler; where its folder has one, it is random.
        self._model = load_part(folder, "", ViTModel, device, torch.float32, add_pooling_layer=False)
        self._size, self._patch = self._model.config.image_size, self._model.config.patch_size
        keys = [m for n, m in self._model.named_modules() if n.endswith((".k_proj", ".attention.key"))]
        self._last_keys = keys[-1]

    @torch.inference_mode()
    def keys(self, frames: Frames) -> Float[Tensor, "frames tokens channels"]:
        """Return keys of the last layer, heads side by side, class token first.

        Frames are resized (bilinear, antialiased, clamped) so that the shorter side has the size the model was trained
        at but the longer one at most 480/224 of it, to whole patches; normalised with ImageNet's mean and deviation;
        position embeddings are interpolated.
        """
        height, width = frames.shape[2:]
        scale = min(self._size / min(height, width), self._size * LONGEST / max(height, width))
        size = [max(1, int(side * scale / self._patch + 1e-6)) * self._patch for side in (height, width)]
        pictures = resized(frames, (size[0], size[1]), "bilinear")
        found: list[Tensor] = []
        with forward_hooked(self._last_keys, lambda output: found.append(output) or output):
            self._model(
                normalised(pictures, IMAGENET_MEAN, IMAGENET_STD).to(self.device),
                interpolate_pos_encoding=True,
            )
        return found[0].cpu()


def load_dino(location: str, *, device: str | torch.device | None = None) -> VisionTransformer:
    """Load a ViT from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    folder = VitFolder(expanded(location))
    return VisionTransformer(folder, name=location, device=choose_device(device))


def resized(frames: Frames, size: tuple[int, int], mode: str) -> Resized:
    """Return frames at another (height, width), antialiased, within [0, 1]."""
    if frames.shape[2:] == size:
        return frames
    return interpolate(frames, size, mode=mode, antialias=True, align_corners=False).clamp(0, 1)


def normalised(frames: Frames, mean: tuple[float, ...], std: tuple[float, ...]) -> Frames:
    """Return frames less a mean colour, over its deviation."""
    return (frames - frames.new_tensor(mean).view(3, 1, 1)) / frames.new_tensor(std).view(3, 1, 1)
