"""The libraries that evenreel needs, and their versions; imports none of them."""

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


def version(library: str) -> str | None:
    """The version of an installed library, None where it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
