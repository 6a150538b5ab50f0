"""States of trainings on disk: two files in turn, each with a checksum, so that a good one is there at every moment.

The newer file is read; where it is damaged, the one before, and that is said. A third file, the stable state, keeps the
moment at which the learning rate begins to fall, from where a training can be lengthened.
"""

import hashlib
import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenreel.errors import OutputError, SettingsError
from evenreel.files import write_atomically


@dataclass(frozen=True)
class State:
    """What a training is made of between two steps."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]
    """JSON: `step`, `seconds`, the settings."""


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Save tensors so that `path` is at every moment either the old file or the whole new one. Raises: OutputError."""
    held = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_atomically(path, lambda aside: save_file(held, aside, metadata))


class StateFiles:
    """The states of one training, `NAME.state.0.safetensors` and `.1`, in its folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.paths = tuple(folder / f"{name}.state.{number}.safetensors" for number in (0, 1))
        self.stable = folder / f"{name}.stable.safetensors"
        self._damaged: set[Path] = set()

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep every other training out of the folder's part while inside. Raises: OutputError when one is at work."""
        lock = FileLock(self.folder / f".{self.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{self.folder}: another training of {self.name} is at work there; wait for it or choose another."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def write(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Save a state in place of a damaged or else the older one."""
        path = min(self.paths, key=lambda path: -2 if path in self._damaged else _step_in(path))
        self._write(path, tensors, record)
        self._damaged.discard(path)

    def write_stable(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Save the state at which the learning rate begins to fall."""
        self._write(self.stable, tensors, record)

    def _write(self, path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        held = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        text = json.dumps(record)
        write_tensors(held, path, {"evenreel": text, "sha256": _checksum(held, text)})

    def newest(self) -> State | None:
        """Return the last good state, None for a training that has none yet.

        Raises: OutputError when there are states and all are damaged.
        """
        read = {path: self.read(path) for path in self.paths if path.exists()}
        damaged = [path for path, state in read.items() if state is None]
        good = sorted((s for s in read.values() if s is not None), key=lambda state: state.record["step"])
        if damaged and not good:
            raise OutputError(
                f"{damaged[0]} is damaged, and no other state is left; delete it to begin the training anew."
            )
        self._damaged = set(damaged)
        if damaged:
            warnings.warn(
                f"{damaged[0]} is damaged; the state beside it is taken, step {good[-1].record['step']}.",
                stacklevel=2,
            )
        return good[-1] if good else None

    def read_stable(self) -> State | None:
        """Return the state before the learning rate fell, None where there is none, or a damaged one."""
        return self.read(self.stable) if self.stable.exists() else None

    @staticmethod
    def read(path: Path) -> State | None:
        """Return a state whose checksum is right; None for a damaged file."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            text = metadata["evenreel"]
            record = json.loads(text)
            if _checksum(tensors, text) != metadata["sha256"] or not isinstance(record["step"], int):
                return None
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError):
            return None
        return State(tensors, record)


def recorded_step(folder: Path, name: str) -> int:
    """Return how many steps a training has made; 0 for none."""
    return max(0, *(_step_in(path) for path in StateFiles(folder, name).paths))


def is_done(folder: Path, name: str) -> bool:
    """Return whether a training has made all its steps."""
    records = [_record_in(path) for path in StateFiles(folder, name).paths]
    return any(record.get("length") and record["step"] >= record["length"] for record in records)


def check_same(path: Path, told: Mapping[str, Any], kept: Mapping[str, Any], free: tuple[str, ...]) -> None:
    """Raise SettingsError when a training that goes on is told other settings than it began with, but for `free`."""
    for name, value in json.loads(json.dumps(told)).items():
        if name not in free and name in kept and kept[name] != value:
            raise SettingsError(
                f"{path} was begun with {name} {kept[name]}, and {name} {value} is asked for; "
                "give the same, or choose another folder."
            )


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _record_in(path: Path) -> dict[str, Any]:
    """What a state says of itself; nothing where it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["evenreel"])
            return {**record, "step": int(record["step"])}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return {}


def _step_in(path: Path) -> int:
    return _record_in(path).get("step", -1)
