"""The log of a training: a line of JSON for each step that was read, of a resumed one each step once."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenreel.files import write_atomically


class TrainingLog:
    """`NAME.log.jsonl`: lines `{"begin": ...}` when a run begins or goes on, `{"step": ..., "loss": ...}` else."""

    def __init__(self, path: Path) -> None:
        """Where TensorBoard is installed, the same goes into the folder `tensorboard` beside it."""
        self.path = path
        self._board: Any = None

    def begin(self, done: int, facts: Mapping[str, Any]) -> None:
        """Drop what was logged after step `done`, whose state was lost, and say how the run goes on."""
        kept = []
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _step_of(line) <= done]
        kept.append(json.dumps({"begin": done, **facts, "at": _now()}))
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))

        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # the lines hold the same
        self._board = SummaryWriter(self.path.parent / "tensorboard", purge_step=done + 1)

    def write(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Add a line to the log."""
        line = {"step": step, "seconds": round(seconds, 2), **figures, "at": _now()}
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)


def _now() -> float:
    return round(time.time(), 1)


def _step_of(line: str) -> float:
    try:
        record = json.loads(line)
        return float(record["step"] if "step" in record else record["begin"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")  # cut short by a kill
