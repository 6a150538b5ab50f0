"""The record of a study: one JSON line for each item, appended as it is finished."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenreel.errors import OutputError, SettingsError, argument


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Items by key; of an item that was run again the last line counts. {} where there is no file.

    A last line without its end was being written when the run was killed: it is not an item.
    Raises: SettingsError for a file of something else.
    """
    if not path.exists():
        return {}
    items: dict[str, dict[str, Any]] = {}
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            item = json.loads(line)
            items[item["key"]] = item
        except (ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{path}: line {number} is not an item of a study; name another {argument('output')}."
            ) from error
    return items


class Log:
    """Appends items; each is on disk before the next is begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._mend()
            self._file = path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); choose another {argument('output')}."
            ) from error

    def _mend(self) -> None:
        """Cut off a line that was being written when a run was killed."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def append(self, item: Mapping[str, Any]) -> None:
        """Add one item. Raises: OutputError where that fails."""
        try:
            self._file.write(json.dumps(item, allow_nan=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}); free some space."
            ) from error

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
