"""Reads recordings of published implementations; knows their format, not their cases.

Parts of them that need no model lie in tests/recordings. EVENREEL_GOLDEN names a folder of whole ones, and beside that
folder lie clips from cameras and files of other tools. Nothing else in the tests looks outside the repository.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from evenreel.diffusion.schedule import NoiseSchedule

WHOLE = Path(os.environ["EVENREEL_GOLDEN"]) if os.environ.get("EVENREEL_GOLDEN") else None
SCHEDULE = NoiseSchedule.from_config(
    {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "set_alpha_to_one": False,
    }
)
"""That of Stable Diffusion 1.x, which all recordings used."""
ROOT = WHOLE or Path(__file__).resolve().parents[1] / "recordings"


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
    """Every recording of a host."""
    return [Recording(path) for path in sorted((ROOT / host).glob("*.safetensors"))]


def cases(host: str, having: str) -> list:
    """Test parameters: the recordings that have tensors starting so.

    Where there are none one that skips, unless whole recordings are there: then something is wrong.
    """
    found = [
        recording for recording in recordings(host) if any(n.startswith(having) for n in recording.names)
    ]
    if not found:
        assert WHOLE is None, f"no recording of {host} under {WHOLE} has {having}"
        reason = f"{having} of {host} is only in whole recordings (EVENREEL_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(recording, id=recording.path.stem) for recording in found]


def model(name: str = "tiny-sd-mild") -> str:
    """The folder of a model that was recorded; skips the test where there are no whole recordings."""
    if WHOLE is None:
        pytest.skip("the models that were recorded lie beside whole recordings only (EVENREEL_GOLDEN)")
    return str(WHOLE / "models" / name)


def beside(name: str) -> Path:
    """A file or folder beside the whole recordings; skips the test where it is not there."""
    if WHOLE is None or not (path := WHOLE.resolve().parent / name).exists():
        pytest.skip(f"{name} lies beside whole recordings only (EVENREEL_GOLDEN)")
    return path


def of_others(name: str) -> Path:
    """A model, or a part of one, as other tools wrote it."""
    return beside(f"reports/models/{name}")


def matching(names: Iterable[str], pattern: str) -> list[tuple[str, ...]]:
    """What a pattern captures in names of tensors, in order; a pattern that matches none is a mistake."""
    found = {match.groups() for name in names if (match := re.fullmatch(pattern, name))}
    assert found, f"no tensor is called {pattern}"
    return sorted(found, key=lambda groups: tuple(int(g) if g.isdigit() else g for g in groups))
