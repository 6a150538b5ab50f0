"""The report of a study: one HTML file that needs nothing else, made from the items' lines alone."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from evenreel.errors import OutputError, SettingsError
from evenreel.metrics.statistics import Estimate
from evenreel.study import lines, plots, summary
from evenreel.study.experiments import experiments
from evenreel.study.figures import FIGURES
from evenreel.study.items import Experiment
from evenreel.study.kinds import option_text
from evenreel.study.rating import QUESTIONS, Ratings
from evenreel.study.runner import items_of
from evenreel.study.settings import StudySettings
from evenreel.video.aside import Aside, unwritable
from evenreel.workflows.theory_run import theory_rows


@dataclass(frozen=True)
class Section:
    """An experiment as the page shows it."""

    experiment: Experiment
    head: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    findings: tuple[str, ...]
    plots: tuple[str, ...]
    strips: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """For each clip: its title, and (condition, data address of its frames)."""
    failed: int
    done: int
    wanted: int


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
        sections=sections,
        figures=FIGURES,
        count=len(known),
        theory=theory_rows(),
    )
    target = out or folder / "report.html"
    aside = Aside(target, folder=False)
    try:
        aside.path.write_text(page, encoding="utf-8")
        aside.commit()
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        aside.discard()
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
        aside = folder / "study.json.partial"
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        aside.replace(folder / "study.json")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another --out.") from error


def section(
    settings: StudySettings,
    experiment: Experiment,
    known: summary.Lines,
    prints: Mapping[str, str],
    frames: Path,
) -> Section:
    """One experiment, ready to be shown."""
    rows = [] if experiment.not_run else summary.rows(settings, experiment, known, prints)
    names = experiment.figures
    return Section(
        experiment=experiment,
        head=("condition", *(FIGURES[name].label for name in names), "items", "seconds"),
        table=tuple(_cells(row, names) for row in rows),
        findings=tuple(_findings(settings, experiment, known, prints)) if rows else (),
        plots=tuple(_plots(experiment, rows)) if rows else (),
        strips=tuple(_strips(settings, experiment, known, prints, frames)) if rows else (),
        failed=sum(row.failed for row in rows),
        done=sum(row.done for row in rows),
        wanted=sum(row.wanted for row in rows),
    )


def rated(section: Section, ratings: Ratings, settings: StudySettings) -> Section:
    """The section on people's preferences, with what they answered so far."""
    pairs = dict.fromkeys(pair for one in experiments(settings) for pair in one.pairs)
    found = ratings.preferences(tuple(pairs))
    if not found:
        return section
    table = tuple(
        (f"{one} rather than {other}", QUESTIONS[question], shown(estimate, 100), str(estimate.count))
        for one, other, question, estimate in found
    )
    return dataclasses.replace(
        section,
        experiment=dataclasses.replace(section.experiment, not_run=""),
        head=("preferred", "question", "share, % (same counts half)", "raters"),
        table=table,
        done=len(table),
        wanted=len(table),
    )


def shown(estimate: Estimate | None, scale: int | float) -> str:
    """A mean and its interval."""
    if estimate is None:
        return "unavailable"
    mean, low, high = (plots.number(scale * value) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"


def _cells(row: summary.Row, names: Sequence[str]) -> tuple[str, ...]:
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    items = f"{row.done} of {row.wanted}" + (f", {row.failed} failed" if row.failed else "")
    return (
        row.condition.name,
        *(shown(row.figures[name], FIGURES[name].scale) for name in names),
        items,
        seconds,
    )


def _findings(
    settings: StudySettings, experiment: Experiment, known: summary.Lines, prints: Mapping[str, str]
) -> list[str]:
    said = []
    for one in summary.differences(settings, experiment, known, prints):
        text = FIGURES[one.figure]
        change = shown(one.estimate, text.scale)
        effect = "" if one.effect is None else f", d = {one.effect:.2f}"
        if not one.is_there:
            said.append(
                f"{one.condition} against {one.against}: no difference in {text.label} ({change}, p = {one.p:.2g})."
            )
            continue
        better = (one.estimate.mean > 0) == (text.better == "more")
        said.append(
            f"{one.condition} is {'better' if better else 'worse'} than {one.against} in {text.label}: "
            f"{change}, p = {one.p:.2g}{effect}."
        )
    return said


def _plots(experiment: Experiment, rows: Sequence[summary.Row]) -> list[str]:
    drawn = []
    for name in experiment.figures:
        text = FIGURES[name]
        scaled = [(row.condition.name, _scaled(row.figures[name], text.scale)) for row in rows]
        drawn.append(plots.dots(scaled, f"{text.label} ({text.better} is better)"))
    points = [
        (row.condition.name, 100 * kept.mean, 100 * asked.mean)
        for row in rows
        if (kept := row.figures.get("kept")) and (asked := row.figures.get("asked"))
    ]
    if len(points) > 4:
        drawn.append(plots.scatter(points, summary.pareto(points), "rest kept, %", "edit success, %"))
    return drawn


def _scaled(estimate: Estimate | None, scale: int | float) -> Estimate | None:
    if estimate is None:
        return None
    return Estimate(
        estimate.mean * scale, estimate.low * scale, estimate.high * scale, estimate.count, estimate.p
    )


def _strips(
    settings: StudySettings,
    experiment: Experiment,
    known: summary.Lines,
    prints: Mapping[str, str],
    frames: Path,
) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    by_clip: dict[int, list[tuple[str, str]]] = {}
    for condition in experiment.conditions:
        for item in items_of(settings, experiment, condition):
            name = known.get(item.key(prints), {}).get("picture")
            if name and (frames / name).is_file():
                data = base64.b64encode((frames / name).read_bytes()).decode()
                told = option_text(condition.options) if condition.kind == "edit" else ""
                label = condition.name + (f" ({told})" if told else "")
                by_clip.setdefault(item.clip, []).append((label, f"data:image/jpeg;base64,{data}"))
    return [(f"clip {clip}", tuple(pictures)) for clip, pictures in sorted(by_clip.items())]
