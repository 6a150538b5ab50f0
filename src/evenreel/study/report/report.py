"""The report of a study: one HTML file that needs nothing else, made from the items' lines alone."""

from importlib import resources
from pathlib import Path

import jinja2

from evenreel.files import write_atomically
from evenreel.study import item_log
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.rating.ratings import Ratings
from evenreel.study.report.sections import rated, section
from evenreel.study.study_record import read_record, settings_of
from evenreel.workflows.theory.run import theory_rows


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Make `folder`/report.html from the study recorded there; returns its path.

    Raises: SettingsError where no study is recorded, OutputError where the page cannot be written.
    """
    record = read_record(folder)
    known = item_log.read(folder / "items.jsonl")
    settings = settings_of(record)
    prints = record["fingerprints"]
    sections = [section(settings, one, known, prints, folder / "frames") for one in experiments(settings)]
    if (folder / "ratings.sqlite").exists():
        ratings = Ratings(folder / "ratings.sqlite")
        sections = [
            rated(one, ratings, settings) if one.experiment.name == "raters" else one for one in sections
        ]
    template = resources.files("evenreel.study.report").joinpath("report.html.j2").read_text(encoding="utf-8")
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
