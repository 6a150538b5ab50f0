"""A backbone as another package would bring it, written against `evenreel.plugins` alone."""

from typing import Any

from evenreel.plugins import Backbone, Guidance, load_backbone


def load(location: str, *, device: Any = None, dtype: Any = None, download: bool = False) -> Backbone:
    """Open a Stable Diffusion folder that wants less guidance than most: `--model calm:FOLDER`."""
    backbone = load_backbone(location, device=device, dtype=dtype, download=download)
    backbone.name = f"calm:{location}"
    backbone.guidance = Guidance(edit=3.0, generate=5.0)
    return backbone
