"""Inversions that edits share: a folder each, named by a hash of all that decides it, so that a second edit finds it.

state.json                what is there, and how much of it is whole
trajectory.safetensors    the clip at each level; beside it, whatever else the inversion made room for
null_embeds.safetensors   null texts, where there are some
"""

import hashlib
import json
import shutil
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.trajectory import Trajectory
from evenreel.files import write_atomically
from evenreel.jobs import places
from evenreel.jobs.pace import Pace
from evenreel.jobs.tensor_file import HEADER, TensorFile, no_room

STATE, LOCK, NULL_EMBEDS = "state.json", ".lock", "null_embeds.safetensors"


class _State(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    done: int = 0
    """Frames' steps that are whole on disk."""
    whole: bool = False
    rooms: dict[str, list[int]] = {}
    """Of each file, the timesteps of its rows."""
    eta: float = 1.0
    relative: bool = False
    timesteps: list[int] = []


@dataclass
class KeptInversion:
    """An inversion on disk, as its inversion writes it and edits read it; a `Kept` of `inversions.base`."""

    folder: Path
    _state: _State
    _shape: tuple[int, int, int, int]
    _dtype: torch.dtype
    _files: list[TensorFile] = field(default_factory=list[TensorFile])
    _pace: Pace = field(default_factory=Pace)

    @property
    def done(self) -> int:
        """Frames' steps that need not be done again."""
        return self._state.done

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to do."""
        return self._state.whole

    def room(self, name: str, timesteps: tuple[int, ...]) -> Trajectory | None:
        """Return room for the clip at each of `timesteps`, with what is there already; None where a name is taken."""
        if any(file.path.stem == name for file in self._files):
            return None
        file = TensorFile(self.folder / f"{name}.safetensors", self._shape, self._dtype)
        self._files.append(file)
        if file.rows != len(timesteps) or self._state.rooms.get(name) != list(timesteps):
            self._state.done, self._state.whole = 0, False
            file.reserve(len(timesteps))
            self._state.rooms[name] = list(timesteps)
        return Trajectory.over(timesteps, file.tensor(len(timesteps)))

    def mark(self, done: int, *, last: bool = False) -> None:
        """Keep what was done so far, now and then, so that it need not be done again."""
        if last or self._pace.due():
            with self._pace.spent():
                self._flush()
                self._state.done = done
                self._write()

    def finish(self, inverted: Inverted) -> None:
        """Say that all levels of the inversion are there, so that other edits may take it."""
        if inverted.null_embeds:
            held = {str(key): rows.detach().cpu().contiguous() for key, rows in inverted.null_embeds.items()}
            write_atomically(self.folder / NULL_EMBEDS, lambda path: save_file(held, path))
        self._flush()
        self._state.eta, self._state.relative = inverted.eta, inverted.relative
        self._state.timesteps, self._state.whole = list(inverted.timesteps), True
        self._write()

    def inverted(self, device: torch.device) -> Inverted:
        """Return a whole inversion, as it lies on disk."""
        rooms = self._state.rooms
        path = self.folder / NULL_EMBEDS
        texts = load_file(path) if path.exists() else {}
        trajectory = self.room("trajectory", tuple(rooms["trajectory"]))
        assert trajectory is not None, "nobody has asked for it before"
        added = tuple(rooms["added_noise"]) if "added_noise" in rooms else None
        return Inverted(
            timesteps=tuple(self._state.timesteps),
            trajectory=trajectory,
            null_embeds={int(key): rows.to(device) for key, rows in texts.items()},
            added_noise=None if added is None else self.room("added_noise", added),
            eta=self._state.eta,
            relative=self._state.relative,
        )

    def close(self) -> None:
        """Let go of the inversion's files."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _flush(self) -> None:
        for file in self._files:
            file.flush()

    def _write(self) -> None:
        write_atomically(self.folder / STATE, self._state.model_dump_json())


def key_of(decides: Mapping[str, Any]) -> str:
    """Return the name of an inversion, from all that decides it."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]


def digest(tensor: Tensor) -> str:
    """Return a hash of a tensor's numbers."""
    total = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    for part in torch.split(tensor.detach(), 64):
        total.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextmanager
def kept(key: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Generator[KeptInversion | None]:
    """Hold an inversion while inside: what there is of it, or an empty one. None while another edit is making it.

    `shape` is that of the clip's latents: frames, channels, height, width.
    """
    folder = places.inversions() / key
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise no_room(folder, error) from error
        lock = FileLock(folder / LOCK)
        try:
            stack.enter_context(lock.acquire(timeout=0))
        except Timeout:
            yield None
            return
        one = KeptInversion(folder, _read(folder, shape, dtype), shape, dtype)
        stack.callback(one.close)
        yield one


def prune() -> None:
    """Remove inversions, those used longest ago first, until the others fit; those in use stay."""
    folder = places.inversions()
    if not folder.is_dir():
        return
    found = [(_used(path), places.size_of(path), path) for path in folder.iterdir() if path.is_dir()]
    total, most = sum(size for _, size, _ in found), places.limit()
    for _, size, path in sorted(found):
        if total <= most:
            return
        if remove(path):
            total -= size


def remove(folder: Path) -> bool:
    """Remove an inversion, unless it is in use; returns whether it is gone."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    try:
        for path in folder.iterdir():
            if path.name != LOCK:
                path.unlink()
    except OSError:
        return False
    finally:
        lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _used(folder: Path) -> float:
    with suppress(OSError):
        return (folder / STATE).stat().st_mtime
    return 0.0


def _read(folder: Path, shape: tuple[int, int, int, int], dtype: torch.dtype) -> _State:
    """What is there; nothing where it is damaged, or a file of it is gone."""
    try:
        state = _State.model_validate_json((folder / STATE).read_bytes())
        for name, timesteps in state.rooms.items():
            size = HEADER + len(timesteps) * torch.Size(shape).numel() * dtype.itemsize
            if (folder / f"{name}.safetensors").stat().st_size != size:
                return _State()
        path = folder / NULL_EMBEDS
        if path.exists():
            load_file(path)
        with suppress(OSError):
            (folder / STATE).touch()  # used now
        if state.whole and ("trajectory" not in state.rooms or not state.timesteps):
            return _State()
        return state
    except (OSError, ValueError, ValidationError, SafetensorError):
        return _State()
