"""Reads the golden recordings; knows their format, not their cases."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

ROOT = Path(os.environ.get("EVENREEL_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))
MODEL = ROOT / "models" / "tiny-sd-mild"


@dataclass(frozen=True)
class Recording:
    """One safetensors file with JSON metadata."""

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        with safe_open(self.path, "pt") as file:
            metadata = file.metadata()
        # One JSON document for everything, or one for each key.
        if set(metadata) == {"json"}:
            return json.loads(metadata["json"])
        return {key: _parsed(value) for key, value in metadata.items()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        with safe_open(self.path, "pt") as file:
            return tuple(file.keys())

    def __getitem__(self, name: str):
        with safe_open(self.path, "pt") as file:
            return file.get_tensor(name)

    def __contains__(self, name: str) -> bool:
        return name in self.names


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:  # plain text
        return value


def recordings(host: str) -> list[Recording]:
    """Every recording of a host; none where they were not fetched."""
    return [Recording(path) for path in sorted((ROOT / host).glob("*.safetensors"))]


def cases(host: str, having: str) -> list:
    """Test parameters: the recordings that have tensors starting so, or one that skips with a reason."""
    found = [
        recording for recording in recordings(host) if any(n.startswith(having) for n in recording.names)
    ]
    if not found:
        reason = f"no golden recordings of {host} under {ROOT} (set EVENREEL_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(recording, id=recording.path.stem) for recording in found]
