"""What a study's folder says of it: its settings, and the hashes of all that its items depend on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from evenreel.errors import SettingsError
from evenreel.files import shown, unwritable, write_atomically
from evenreel.settings import read
from evenreel.study.settings import StudySettings


class _Record(BaseModel):
    """What study.json says; more may stand there."""

    model_config = ConfigDict(strict=True, extra="allow")

    settings: dict[str, Any]
    fingerprints: dict[str, str]
    evenreel: str
    torch: str
    machine: str
    begun: str


def read_record(folder: Path) -> dict[str, Any]:
    """Return what was run in a folder. Raises: SettingsError where nothing was, or the record is damaged."""
    path = folder / "study.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if "model" not in _Record.model_validate(record).fingerprints:
            raise ValueError("every study has a model")
    except FileNotFoundError as error:
        raise SettingsError(
            f"{folder} holds no study; run `evenreel study run --out {folder}` first."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path} is damaged or is not the record of a study; run `evenreel study run --out {folder}` again."
        ) from error
    return record


def settings_of(record: Mapping[str, Any]) -> StudySettings:
    """Make the settings of a study from its record. Raises: SettingsError for a record of something else."""
    settings = read(StudySettings, record["settings"], "a recorded study")
    for file in settings.files:
        if f"file {file}" not in record["fingerprints"]:
            raise SettingsError(
                f"the record of a study names {shown(file)} without its hash, so it is damaged; run the study again."
            )
    return settings


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say what is run in a folder. Raises: OutputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    write_atomically(folder / "study.json", json.dumps(record, indent=2) + "\n")
