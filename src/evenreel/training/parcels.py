"""Weights in files of a limited size with a list of checksums, to be carried from one machine to another."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from evenreel.errors import WeightsError
from evenreel.files import write_atomically

LIMIT = 16_500_000
"""Bytes of a file: below 16 MiB, which is where a lent machine stops."""
SUMS = "parcel.json"


def pack(tensors: Mapping[str, Tensor], folder: Path, name: str) -> None:
    """Write tensors, in float16, as `name`.0, `name`.1, ... in `folder`, in place of earlier ones of that name."""
    whole = save({key: value.detach().cpu().half().contiguous() for key, value in tensors.items()})
    files = [whole[start : start + LIMIT] for start in range(0, len(whole), LIMIT)]
    sums = _sums(folder)
    sums[name] = [hashlib.sha256(part).hexdigest() for part in files]
    for number, part in enumerate(files):
        write_atomically(folder / f"{name}.{number}", part)
    write_atomically(folder / SUMS, json.dumps(sums, indent=1) + "\n")


def joined(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the tensors of a name. Raises: WeightsError for files that are absent or damaged."""
    sums = _sums(folder).get(name)
    if not sums:
        raise WeightsError(f"{folder} holds no weights of {name}; fetch its {SUMS} and all files again.")
    parts: list[bytes] = []
    for number, expected in enumerate(sums):
        path = folder / f"{name}.{number}"
        part = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(part).hexdigest() != expected:
            raise WeightsError(f"{path} is absent or damaged; fetch it again.")
        parts.append(part)
    return {key: value.to(torch.float32) for key, value in load(b"".join(parts)).items()}


def _sums(folder: Path) -> dict[str, list[str]]:
    path = folder / SUMS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
