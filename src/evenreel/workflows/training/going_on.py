"""A training's folder: made, and taken up again only by the training that began in it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenreel.errors import OutputError, SettingsError, argument
from evenreel.files import write_atomically
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop import FREE
from evenreel.training.states import recorded_step


def make(out: Path) -> None:
    """Make a folder. Raises: OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be made ({error.strerror}); choose another {argument('output')}."
        ) from error


def check_same(
    out: Path, name: str, settings: Any, shards: ShardedData, *, harmless: Sequence[str], write: bool
) -> None:
    """Raise SettingsError unless a run of `name` that goes on in `out` is the run that began: its length may change.

    `settings` is a dataclass with a `loop`; its fields in `harmless` may change too. `write` keeps those of a new run.
    """
    path = out / "settings.json"
    told = json.loads(json.dumps(asdict(settings), default=str))
    for free in FREE:
        told["loop"].pop(free)
    for each in harmless:
        told.pop(each)
    told["data"] = [shard.sha256 for shard in shards.manifest.shards]
    if recorded_step(out, name) and path.exists():
        before = _read(path)
        if changed := sorted(each for each in told if told[each] != before.get(each)):
            raise SettingsError(
                f"{out} holds a training with another {changed[0]}; choose another {argument('output')}."
            )
    elif write:
        write_atomically(path, json.dumps(told, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"{path} is damaged, so that it cannot be told whether this is the training that began there; "
            f"choose another {argument('output')}."
        ) from error
    return found
