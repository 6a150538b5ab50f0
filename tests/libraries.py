"""What the oldest libraries that are allowed cannot do, and a test compares with."""

import diffusers
import pytest
from packaging.version import Version


def need_loras_of_text_encoders() -> None:
    """Skip where diffusers itself cannot read them."""
    if Version(diffusers.__version__) < Version("0.41"):
        pytest.skip(f"diffusers {diffusers.__version__} itself cannot read LoRAs of text encoders")
