"""What trainings ask first: a folder, the training that began in it, data that fit the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError, argument
from evenreel.files import write_atomically
from evenreel.settings.changes import places
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop_settings import FREE
from evenreel.training.states import recorded_step

LARGER = 4
"""Data of more than so many times the area that a model was trained at are refused: each step would take long, and the
model would see nothing that it knows."""


def check_fits(shards: ShardedData, backbone: Backbone) -> None:
    """Raise SettingsError for data of a size that the model does not take, or that is far larger than its own."""
    (width, height), own = shards.settings.size, backbone.native_size
    unit = backbone.size_multiple
    advice = f"build the data with {argument('size')} {own}."
    if width % unit or height % unit:
        raise SettingsError(
            f"frames of {width} x {height} px do not fit model {backbone.name}, whose sides are multiples of {unit}; "
            f"{advice}"
        )
    if width * height > LARGER * own**2:
        raise SettingsError(
            f"frames of {width} x {height} px are far larger than those of model {backbone.name}, which works at "
            f"{own} x {own}; {advice}"
        )


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
        if changed := _different(before, told, places(type(settings))):
            raise SettingsError(
                f"{out} was begun with {changed} is asked for; give the same, or choose another {argument('output')}."
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


def _different(
    before: Any, told: Any, options: Mapping[tuple[str, ...], str], path: tuple[str, ...] = ()
) -> str | None:
    """Say what is the first of the settings that is not what it was, by its option; None where all are."""
    if isinstance(before, dict) and isinstance(told, dict) and path not in options:
        for key in sorted(
            told, key=lambda key: (key == "inference_window", key)
        ):  # which follows from another
            if (found := _different(before.get(key), told[key], options, (*path, key))) is not None:
                return found
        return None
    if before == told:
        return None
    option = argument(next((name for place, name in options.items() if place[: len(path)] == path), path[-1]))
    if any(isinstance(value, dict | list) for value in (before, told)):
        return f"other {option}, and another"
    return f"{option} {before!s:.60}, and {told!s:.60}"
