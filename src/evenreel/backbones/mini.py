"""The small model that comes with evenreel."""

from pathlib import Path

import torch

from evenreel.backbones import families
from evenreel.backbones.base import Guidance, QuickEdit
from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.stable_diffusion import StableDiffusion
from evenreel.errors import WeightsError

FOLDER = Path(__file__).parent.parent / "weights" / "mini"
ADAPTER = FOLDER.with_name("mini-adapter.safetensors")
"""An adapter trained for it, where one is packaged: the one of version 0.1 was made for another UNet."""
MOTION = FOLDER.with_name("mini-motion")
"""The motion modules trained for it, where they are packaged."""
CONTROL = FOLDER.with_name("mini-control")
"""The ControlNet trained for it, one for edges, depths and poses, where it is packaged."""
CONTROLS = ("mini-canny", "mini-depth", "mini-pose")
"""Names of that one, by what it is shown."""


def load(
    location: str = "",  # every loader takes one, though this model is in one place only
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    download: bool = False,  # and there is nothing to fetch
    vae: str = "",
    clip_skip: int = 1,
    preset: str = "",
) -> StableDiffusion:
    """Open the packaged model: 128 x 128 pixels, trained on evenreel's own synthetic clips."""
    if not FOLDER.is_dir():
        raise WeightsError(f"the packaged model is missing ({FOLDER}); install evenreel again.")
    ModelFolder(FOLDER).check_sums(complete=True)
    backbone = families.load(
        str(FOLDER), device=device, dtype=dtype, vae=vae, clip_skip=clip_skip, preset=preset
    )
    backbone.name = "mini"
    quick = QuickEdit(steps=20, guidance_interval=(0.3, 1.0))  # measured: docs/performance.md
    backbone.guidance = Guidance(edit=2.5, generate=4.0, quick_edit=quick)  # docs/hosts.md, the model card
    return backbone
