"""The report of a study: one HTML file that needs nothing else, made from the items' lines alone."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from evenreel.errors import SettingsError
from evenreel.files import unwritable, write_atomically
from evenreel.study import lines
from evenreel.study.experiments import experiments
from evenreel.study.rating import Ratings
from evenreel.study.sections import rated, section
from evenreel.study.settings import StudySettings
from evenreel.workflows.theory_run import theory_rows


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Make `folder`/report.html from the study recorded there; returns its path.

    Raises: SettingsError where no study is recorded, OutputError where the page cannot be written.
    """
    record = read_record(folder)
    known = lines.read(folder / "items.jsonl")
    settings = settings_of(record)
    prints = record["fingerprints"]
    sections = [section(settings, one, known, prints, folder / "frames") for one in experiments(settings)]
    if (folder / "ratings.sqlite").exists():
        ratings = Ratings(folder / "ratings.sqlite")
        sections = [
            rated(one, ratings, settings) if one.experiment.name == "raters" else one for one in sections
        ]
    template = resources.files("evenreel.study").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(
        record=record,
        settings=settings,
        sections=[one for one in sections if not one.experiment.not_run],
        missing=[one for one in sections if one.experiment.not_run],
        count=len(known),
        failed=sum("error" in line for line in known.values()),
        hours=sum(line.get("seconds", 0) for line in known.values()) / 3600,
        theory=theory_rows(),
    )
    target = out or folder / "report.html"
    write_atomically(target, page)
    return target


def read_record(folder: Path) -> dict[str, Any]:
    """What was run in a folder. Raises: SettingsError where nothing was."""
    try:
        return json.loads((folder / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder} holds no study; run `evenreel study run --out {folder}` first."
        ) from error


def settings_of(record: Mapping[str, Any]) -> StudySettings:
    """The settings of a study from its record."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record["settings"].items()
    }
    return StudySettings(**values)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say what is run in a folder. Raises: OutputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    write_atomically(folder / "study.json", json.dumps(record, indent=2) + "\n")
