"""What evenreel needs and may be given: libraries and their versions, weights of metrics; imports none of them."""

from importlib import metadata

LIBRARIES = (
    "torch",
    "diffusers",
    "accelerate",
    "transformers",
    "safetensors",
    "huggingface-hub",
    "av",
    "numpy",
    "pillow",
    "einops",
    "psutil",
)

WEIGHTS = {"clip": "EVENREEL_CLIP", "lpips": "EVENREEL_LPIPS", "dino": "EVENREEL_DINO"}
"""Weights that metrics may need, and the environment variables that name them."""


def version(library: str) -> str | None:
    """The version of an installed library, None where it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
