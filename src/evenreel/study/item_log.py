"""The record of a study: one JSON line for each item, appended as it is finished."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evenreel.errors import OutputError, SettingsError, argument

Number = Annotated[float, Field(allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,199}$")]
"""Of a picture in the folder `frames`, and nowhere else."""


class _Line(BaseModel):
    """What a line says; more may stand there, which is not read."""

    model_config = ConfigDict(strict=True, extra="ignore")

    key: str
    figures: dict[str, Number | None] | None = None
    seconds: Annotated[Number, Field(ge=0)] | None = None
    error: str | None = None
    prompt: str | None = None
    picture: FileName | None = None
    maps: dict[str, FileName] | None = None
    series: dict[str, list[Number]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _told(cls, values: Any) -> Any:
        if isinstance(values, dict) and None in [values.get(name, 0) for name in cls.model_fields]:
            raise ValueError("what is not told is left out")
        return values

    @model_validator(mode="after")
    def _fits(self) -> "_Line":
        if self.figures is not None and self.seconds is None:
            raise ValueError("figures took some seconds")
        if len({len(values) for values in (self.series or {}).values()}) > 1:
            raise ValueError("series must be of one length")
        return self


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read items by key; of an item that was run again the last line counts. {} where there is no file.

    A last line without its end was being written when the run was killed: it is not an item.
    Raises: SettingsError for a file of something else.
    """
    if not path.exists():
        return {}
    items: dict[str, dict[str, Any]] = {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}); name another {argument('output')}."
        ) from error
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            item = json.loads(line)
            told = _Line.model_validate(item)
            # numbers come back as floats, also where 1.0 was written as 1
            items[told.key] = {**item, **told.model_dump(include={"figures", "series"}, exclude_unset=True)}
        except (ValueError, RecursionError) as error:
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
