"""A table of edits, CSV or JSON lines: a row is an edit, a column a setting, under the names of `EditSettings`."""

import csv
import dataclasses
import json
import os
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from evenreel.errors import DataError, EvenreelError, SettingsError
from evenreel.files import expanded, shown
from evenreel.hosts.base import create_host
from evenreel.inversions.base import create_inversion
from evenreel.jobs.job import Task
from evenreel.settings import EditSettings
from evenreel.settings.fields import Leaf, leaves, members
from evenreel.settings.kinds import plain_value
from evenreel.settings.runs import AUTO_HOST
from evenreel.video import probe
from evenreel.workflows.editing.records import job_use, record
from evenreel.workflows.editing.regions.places import opened_regions
from evenreel.workflows.editing.setup.opening import opened_mask

CLIP, OUT = "clip", "out"
DEFAULT_OUT = "{clip}-{row}.mp4"


@dataclass(frozen=True)
class Row:
    """One edit of a table."""

    number: int
    """Counted from 1, without the line of names."""
    source: Path
    output: Path
    settings: EditSettings
    task: Task


def read(path: Path, out: str | None = None, *, download: bool = False) -> list[Row]:
    """Return the rows of a table, each checked as far as that goes without loading a model.

    `out` names results where the table has no column for that: text with the names of columns in braces, `{row}`, and
    `{clip}`, which is the clip's name without its suffix. Paths that are not absolute begin at the table's folder.
    Raises: DataError, which names every row that is wrong.
    """
    rows: list[Row] = []
    wrong: list[str] = []
    for number, cells in enumerate(_cells(path), 1):
        try:
            told = _values(cells) if path.suffix.lower() == ".csv" else cells
            rows.append(_row(number, told, path.absolute().parent, out, download=download))
        except EvenreelError as error:
            wrong.append(f"row {number}: {error}")
    wrong += _twice(rows)
    if wrong:
        more = f" ({len(wrong) - 8} more rows are wrong)" if len(wrong) > 8 else ""
        raise DataError(f"{shown(path)} has rows that cannot be: {' '.join(wrong[:8])}{more}")
    if not rows:
        raise DataError(
            f"{shown(path)} has no rows; give a table with a line of names and a line for each edit."
        )
    return rows


def _cells(path: Path) -> Iterator[dict[str, Any]]:
    """Rows as names and values, of CSV as names and texts; cells that are empty are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(
            f"{shown(path)} cannot be read ({reason}); give a table as CSV or JSON lines."
        ) from error
    known = {leaf.name: leaf for leaf in leaves(EditSettings)}
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    cells = json.loads(line)
                except (ValueError, RecursionError):
                    cells = None
                if not isinstance(cells, dict):
                    raise DataError(f"{shown(path)} line {number} is not a JSON object; correct that line.")
                yield _named(path, cast("dict[str, Any]", cells), known)
        return
    if path.suffix.lower() != ".csv":
        raise DataError(f"{shown(path)} is not a .csv or .jsonl; give a table in one of these.")
    try:
        for cells in csv.DictReader(text.splitlines(keepends=True), strict=True):
            if None in cells or None in cells.values():
                raise DataError(
                    f"{shown(path)} has a row with more or fewer cells than names; put text with commas in quotes."
                )
            named = _named(path, {key: cell.strip() for key, cell in cells.items()}, known)
            yield {key: cell for key, cell in named.items() if cell != ""}
    except csv.Error as error:
        raise DataError(
            f"{shown(path)} is not CSV ({error}); put text with quotes in it in quotes."
        ) from error


def _named(path: Path, cells: dict[str, Any], known: dict[str, Leaf]) -> dict[str, Any]:
    """Cells under the names of settings, however columns spell them. Raises: DataError for a column that is unknown."""
    named = {str(key).strip().removeprefix("--").replace("-", "_"): cell for key, cell in cells.items()}
    flags = {
        flag.strip("-").replace("-", "_"): leaf.name for leaf in known.values() for flag in leaf.option.flags
    }
    named = {flags.get(key, key): cell for key, cell in named.items()}
    unknown = [key for key in named if key not in known and key not in (CLIP, OUT)]
    if unknown:
        raise DataError(
            f"{shown(path)} has a column {unknown[0]!r}, and there are: {CLIP}, {OUT}, {', '.join(sorted(known))}."
        )
    return named


def _values(cells: Mapping[str, str]) -> dict[str, Any]:
    """What the cells of a row of CSV say. Raises: SettingsError."""
    known = {leaf.name: leaf for leaf in leaves(EditSettings)}
    return {key: _value(known[key], cell) if key in known else cell for key, cell in cells.items()}


def _value(leaf: Leaf, text: str) -> Any:
    """What a cell of CSV says; where a setting may be given several times, semicolons stand between."""
    several = [part.strip() for part in text.split(";")]
    if leaf.option.parse is not None:
        listed = leaf.several or leaf.option.metavar == "KEY=VALUE" or leaf.name in ("lora", "embedding")
        return leaf.option.parse(leaf.name, several if listed else text)
    plain = str in members(leaf.hint) and not {int, float, bool} & set(members(leaf.hint))
    if leaf.several:
        return several if plain else [plain_value(part) for part in several]
    literal = any(
        getattr(member, "__args__", None) and not isinstance(member, type) for member in members(leaf.hint)
    )
    return text if plain or literal else plain_value(text)


def _row(number: int, cells: dict[str, Any], folder: Path, out: str | None, *, download: bool) -> Row:
    told = dict(cells)
    clip = told.pop(CLIP, None)
    if not clip or not isinstance(clip, str):
        raise SettingsError(f"names no clip; fill in the column {CLIP!r}.")
    source = folder / expanded(clip)
    template = str(told.pop(OUT, None) or out or DEFAULT_OUT)
    settings = EditSettings.from_json(told)
    settings = EditSettings.from_json(job_use.found_again(settings, folder))
    if settings.host != AUTO_HOST:
        create_host(settings.host, settings.host_options)
    create_inversion(settings)
    info = probe(source)
    count = info.estimated_frame_count
    if count is not None and settings.frames == (0, None):
        settings.check_changes(count)
    opened_mask(settings, info.width, info.height)
    opened_regions(settings.region, info.width, info.height)
    output = folder / expanded(_filled(template, {**cells, CLIP: source.stem, "row": number}))
    if not output.parent.is_dir():
        raise SettingsError(f"{shown(output.parent)} is not a folder; make it, or name another result.")
    task = Task(
        source=str(source),
        output=str(output),
        settings=record.plain(job_use.found_again(settings)),
        download=download,
    )
    return Row(number, source, output, settings, task)


def _filled(template: str, values: dict[str, Any]) -> str:
    """A name with its {placeholders} filled in, by text that a name can hold."""
    filled = {
        key: "".join(c if c.isalnum() or c in "-_. " else "-" for c in str(value))[:80]
        for key, value in values.items()
    }
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise SettingsError(
            f"{template!r} is not a name with {{placeholders}} ({error}); correct it."
        ) from error
    if missing := [name for name in names if name not in filled]:
        raise SettingsError(
            f"{template!r} speaks of {{{missing[0]}}}, and there are: {', '.join(sorted(filled))}."
        )
    return "".join(
        text + ("" if name is None else filled[name])
        for text, name, _, _ in string.Formatter().parse(template)
    )


def _twice(rows: list[Row]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for row in rows:
        key = os.path.normcase(os.path.realpath(row.output))
        if key in seen:
            yield (
                f"row {row.number}: writes {shown(row.output)}, as row {seen[key]} does; name them apart, for example "
                "with {row}."
            )
        seen.setdefault(key, row.number)


def model_of(settings: EditSettings) -> tuple[Any, ...]:
    """Return what of settings says which model is loaded; rows that agree in it share one."""
    names = ("model", "vae", "clip_skip", "tokenizer", "prediction_type", "device", "dtype")
    values = dataclasses.asdict(settings)
    return tuple(values[name] for name in names)
