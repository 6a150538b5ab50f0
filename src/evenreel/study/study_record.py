"""What a study's folder says of it: its settings, and the hashes of all that its items depend on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenreel.errors import SettingsError
from evenreel.files import unwritable, write_atomically
from evenreel.settings import read
from evenreel.study.settings import StudySettings


def read_record(folder: Path) -> dict[str, Any]:
    """What was run in a folder. Raises: SettingsError where nothing was."""
    try:
        return json.loads((folder / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder} holds no study; run `evenreel study run --out {folder}` first."
        ) from error


def settings_of(record: Mapping[str, Any]) -> StudySettings:
    """Make the settings of a study from its record. Raises: SettingsError for a record of something else."""
    return read(StudySettings, record["settings"], "a recorded study")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say what is run in a folder. Raises: OutputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    write_atomically(folder / "study.json", json.dumps(record, indent=2) + "\n")
