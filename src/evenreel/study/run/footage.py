"""Clips of the user's that a study is run on, in the place of the rendered world's: a list, and their frames."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evenreel.errors import ClipError, EvenreelError, SettingsError
from evenreel.study.settings import StudySettings
from evenreel.training.data.groups import fitted
from evenreel.types import Frames
from evenreel.video import open_clip, probe, to_model
from evenreel.video.hashing import hash_of
from evenreel.workflows.evaluation.benchmarks import BENCHMARKS, read_benchmark
from evenreel.workflows.evaluation.pairs import Pair

TABLES = ("edits.csv", "edits.json")
"""Where a folder of clips says how they are to be edited."""
COLUMNS = ("clip", "prompt", "source_prompt", "mask")


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """A clip, and the edit of it that is asked for."""

    path: Path
    prompt: str
    source_prompt: str = ""
    mask: Path | None = None
    """A clip or a folder of images: what is not black is to be edited."""

    def fingerprint(self) -> str:
        """Return the hash of its content and of what is asked for. Raises: ClipError."""
        total = hashlib.sha256(json.dumps([self.prompt, self.source_prompt]).encode())
        for path in (self.path, self.mask):
            if path is not None:
                total.update(hash_of(probe(path).images or (path,)).encode())
        return total.hexdigest()

    def frames(self, count: int, side: int) -> Frames:
        """Return its first frames, as large as a model's own square; see `_read`."""
        return _read(self.path, count, side)

    def background(self, count: int, side: int) -> torch.Tensor | None:
        """Return what is not to be edited, (frames 1 side side); None where nothing says so."""
        return None if self.mask is None else _read(self.mask, count, side).amax(1, keepdim=True) < 0.5


def _read(path: Path, count: int, side: int) -> Frames:
    """The first `count` frames, scaled to cover a square and cut around their middle. Raises: ClipError."""
    parts = [fitted(pixels, (side, side)) for pixels, _ in open_clip(path, 0, count, window=count)]
    pixels = torch.cat(parts) if parts else torch.empty(0)
    if len(pixels) < count:
        raise ClipError(f"{path} has {len(pixels)} frames and the study takes {count}; name another clip.")
    return to_model(pixels, (side, side))


def listed(settings: StudySettings) -> tuple[Filmed, ...]:
    """Return the clips of a study, as many as its settings ask for; () for one of the world.

    Raises: SettingsError for a folder that says nothing of its edits, and for a benchmark that asks for none.
    """
    if settings.footage is None:
        return ()
    folder = settings.place(settings.footage)
    found = _of_benchmark(settings.benchmark, folder) if settings.benchmark else _of_table(folder)
    for one in found:
        for path in (one.path, one.mask):
            if path is not None and not path.exists():
                raise SettingsError(
                    f"{path}: there is no such clip, though the study's list of edits names it."
                )
    return tuple(found[: settings.clips])


def _of_benchmark(name: str, folder: Path) -> list[Filmed]:
    pairs = read_benchmark(name, Pair(source=folder, edit=folder))
    found = [
        Filmed(path=one.source, prompt=one.prompt, source_prompt=one.source_prompt or "", mask=one.mask)
        for one in pairs
        if one.prompt
    ]
    if not found:
        raise SettingsError(
            f"{BENCHMARKS[name].title} does not say how clips are to be edited; list edits in {folder / TABLES[0]} "
            "(columns clip, prompt, source_prompt), and leave the benchmark out."
        )
    return found


def _of_table(folder: Path) -> list[Filmed]:
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        raise SettingsError(
            f"{folder} has no {' and no '.join(TABLES)}; list its edits there (columns clip, prompt, source_prompt)."
        )
    try:
        text = table.read_text(encoding="utf-8-sig")
        rows: Any = (
            json.loads(text)
            if table.suffix == ".json"
            else list(csv.DictReader(io.StringIO(text, newline=""), restkey="more", strict=True))
        )
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise SettingsError(f"{table} cannot be read as a list of edits; see docs/reproduce.md.") from error
    if not isinstance(rows, list) or not rows:
        raise SettingsError(f"{table} lists no edits; see docs/reproduce.md.")
    return [_filmed(folder, table, number, row) for number, row in enumerate(rows, 1)]


def _filmed(folder: Path, table: Path, number: int, row: object) -> Filmed:
    told = {name: value for name, value in row.items() if value} if isinstance(row, dict) else {}
    if not {"clip", "prompt"} <= told.keys() <= set(COLUMNS) or not all(
        isinstance(v, str) for v in told.values()
    ):
        raise SettingsError(
            f"{table}: edit {number} must say clip and prompt, and may say source_prompt and mask, as texts."
        )
    mask = told.get("mask")
    return Filmed(
        path=folder / told["clip"],
        prompt=told["prompt"],
        source_prompt=told.get("source_prompt", ""),
        mask=None if mask is None else folder / mask,
    )


def fingerprints(clips: Sequence[Filmed]) -> dict[str, str]:
    """Return the hash of each clip by `clip NUMBER`. Raises: SettingsError for one that cannot be read."""
    try:
        return {f"clip {number}": one.fingerprint() for number, one in enumerate(clips)}
    except EvenreelError as error:
        raise SettingsError(str(error)) from error
