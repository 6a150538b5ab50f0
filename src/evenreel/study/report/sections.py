"""Experiments, ready to be shown: tables, findings, plots and pictures, all from the items' lines."""

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.metrics.statistics import Estimate
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.items import Experiment
from evenreel.study.rating.ratings import QUESTIONS, Ratings
from evenreel.study.report import answers, plots, summary
from evenreel.study.report.formatting import FIGURES
from evenreel.study.run.actions import option_text
from evenreel.study.run.runner import items_of
from evenreel.study.settings import StudySettings

Table = tuple[tuple[str, ...], ...]
Pictures = tuple[tuple[str, str], ...]
"""(what it shows, data address)."""


@dataclass(frozen=True)
class Section:
    """An experiment as the page shows it."""

    experiment: Experiment
    answer: str
    """One sentence; empty where nothing has been run."""
    extent: str
    """On what it rests."""
    head: tuple[str, ...]
    table: Table
    findings: Table
    """Comparisons: what with what, figure, difference, effect, p, verdict."""
    plots: tuple[str, ...]
    more_plots: tuple[str, ...]
    beside: Table
    """The paper's figures and ours, with a head."""
    strips: tuple[tuple[str, Pictures], ...]
    """For each clip: its title, and the frames of every condition."""
    maps: tuple[tuple[str, Pictures], ...]
    """For each condition: its name, and rows of maps."""
    failed: int
    done: int
    wanted: int


def section(
    settings: StudySettings,
    experiment: Experiment,
    known: summary.Lines,
    prints: Mapping[str, str],
    frames: Path,
) -> Section:
    """Return one experiment, ready to be shown."""
    rows = [] if experiment.not_run else summary.rows(settings, experiment, known, prints)
    found = summary.differences(settings, experiment, known, prints) if rows else []
    names = experiment.figures
    spread = any(one is not None and one.count > 1 for row in rows for one in row.figures.values())
    drawn = list(_plots(experiment, rows)) if spread else []
    first = [*_curves(settings, experiment, known, prints), *_differences(experiment, found)] if rows else []
    return Section(
        experiment=experiment,
        answer=answers.answer(experiment, rows, found),
        extent=_extent(settings, experiment, rows),
        head=("condition", *(FIGURES[name].label for name in names), "items", "seconds"),
        table=tuple(_cells(row, names) for row in rows),
        findings=tuple(_finding(one) for one in found),
        plots=tuple(first or drawn[-1:]),
        more_plots=tuple(drawn if first else drawn[:-1]),
        beside=_beside(experiment, rows),
        strips=tuple(_strips(settings, experiment, known, prints, frames)) if rows else (),
        maps=tuple(_maps(settings, experiment, known, prints, frames)) if rows else (),
        failed=sum(row.failed for row in rows),
        done=sum(row.done for row in rows),
        wanted=sum(row.wanted for row in rows),
    )


def rated(section: Section, ratings: Ratings, settings: StudySettings) -> Section:
    """Return the section on people's preferences, with what they answered so far."""
    pairs = dict.fromkeys(pair for one in experiments(settings) for pair in one.pairs)
    found = ratings.preferences(tuple(pairs))
    if not found:
        return section
    table = tuple(
        (f"{one} rather than {other}", QUESTIONS[question], shown(estimate, 100), str(estimate.count))
        for one, other, question, estimate in found
    )
    clear = [
        f"{one} over {other} ({QUESTIONS[question].rstrip('?').lower()})"
        for one, other, question, estimate in found
        if estimate.low > 0.5
    ]
    return dataclasses.replace(
        section,
        experiment=dataclasses.replace(section.experiment, not_run=""),
        answer=f"Preferred: {'; '.join(clear)}." if clear else "No preference is clear.",
        extent=f"{ratings.raters()} raters.",
        head=("preferred", "question", "share, % (same counts half)", "raters"),
        table=table,
        done=len(table),
        wanted=len(table),
    )


def shown(estimate: Estimate | None, scale: int | float) -> str:
    """Return a mean and its interval."""
    if estimate is None:
        return "unavailable"
    mean, low, high = (plots.number(scale * value) for value in (estimate.mean, estimate.low, estimate.high))
    return mean if estimate.count == 1 else f"{mean} [{low}, {high}]"


def _with_median(estimate: Estimate | None, scale: int | float) -> str:
    """A mean, its interval and the median; of one clip there is one value only."""
    text = shown(estimate, scale)
    if estimate is None or estimate.count == 1:
        return text
    return f"{text}, median {plots.number(scale * estimate.median)}"


def _extent(settings: StudySettings, experiment: Experiment, rows: Sequence[summary.Row]) -> str:
    if not rows or rows[0].condition.kind == "training":
        return ""
    clips = len({item.clip for item in items_of(settings, experiment, rows[0].condition)})
    seeds = len(settings.seeds[: experiment.seeds])
    return (
        f"{clips} clip{'s' if clips > 1 else ''}, {seeds} seed{'s' if seeds > 1 else ''} "
        "(one where nothing is drawn at random)."
        if seeds > 1
        else f"{clips} clip{'s' if clips > 1 else ''}, one seed."
    )


def _cells(row: summary.Row, names: Sequence[str]) -> tuple[str, ...]:
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    items = f"{row.done} of {row.wanted}" + (f", {row.failed} failed" if row.failed else "")
    return (
        row.condition.name,
        *(_with_median(row.figures[name], FIGURES[name].scale) for name in names),
        items,
        seconds,
    )


def _finding(one: summary.Difference) -> tuple[str, ...]:
    text = FIGURES[one.figure]
    effect = "" if one.effect is None else f"{one.effect:+.2f}"
    return (
        f"{one.condition} against {one.against}",
        text.label,
        shown(one.estimate, text.scale),
        effect,
        f"{one.p:.2g}",
        verdict(one),
    )


def verdict(one: summary.Difference) -> str:
    """Return `better`, `worse`, `higher`, `lower`, `no difference` or `too few clips`."""
    if one.rests_on_few:
        return "too few clips"
    if not one.is_there:
        return "no difference"
    up = one.estimate.mean > 0
    better = FIGURES[one.figure].better
    if better == "neither":
        return "higher" if up else "lower"
    return "better" if up == (better == "more") else "worse"


def _differences(experiment: Experiment, found: Sequence[summary.Difference]) -> Iterator[str]:
    """For each figure, all differences with their intervals."""
    for name in experiment.tested:
        text = FIGURES[name]
        rows = [
            (answers.subject(experiment, one.condition), scaled(one.estimate, text.scale))
            for one in found
            if one.figure == name
        ]
        if rows:
            way = "" if text.better == "neither" else f"; {text.better} is better"
            yield plots.dots(rows, f"difference in {text.label}{way}", zero=True)


def _plots(experiment: Experiment, rows: Sequence[summary.Row]) -> Iterator[str]:
    for name in experiment.figures:
        text = FIGURES[name]
        way = "" if text.better == "neither" else f" ({text.better} is better)"
        drawn = [(row.condition.name, scaled(row.figures[name], text.scale)) for row in rows]
        if svg := plots.dots(drawn, f"{text.label}{way}"):
            yield svg
    points = [
        (row.condition.name, 100 * kept.mean, 100 * asked.mean)
        for row in rows
        if (kept := row.figures.get("kept")) and (asked := row.figures.get("asked"))
    ]
    if len(points) > 4:
        yield plots.scatter(points, summary.pareto(points), "rest kept, %", "edit success, %")


def scaled(estimate: Estimate | None, scale: int | float) -> Estimate | None:
    """Return an estimate in the unit that is shown."""
    if estimate is None:
        return None
    names = ("mean", "low", "high", "median")
    return dataclasses.replace(estimate, **{name: scale * getattr(estimate, name) for name in names})


def _curves(
    settings: StudySettings, experiment: Experiment, known: summary.Lines, prints: Mapping[str, str]
) -> Iterator[str]:
    if experiment.name == "similarity":
        lines = []
        for condition in experiment.conditions:
            found = summary.curve(settings, experiment, condition, known, prints, "timestep", "similarity")
            x, estimates = [x for x, _ in found], [estimate for _, estimate in found]
            y, low, high = ([getattr(e, name) for e in estimates] for name in ("mean", "low", "high"))
            lines.append(plots.Curve(condition.name, x, y, low, high))
        yield plots.curves(lines, "timestep", "mean cosine of neighbouring frames' latents", descending=True)
    if experiment.name == "training":
        for item in items_of(settings, experiment, experiment.conditions[0]):
            series = known.get(item.key(prints), {}).get("series")
            if series:
                line = plots.Curve("temporal loss", series["step"], series["temporal"])
                yield plots.curves([line], "training step", "temporal loss, mean of each part of the steps")


def _beside(experiment: Experiment, rows: Sequence[summary.Row]) -> Table:
    """The paper's table, and after each of its columns ours, where there is one."""
    if not experiment.paper:
        return ()
    by_name = {row.condition.name: row for row in rows}
    ours = dict(experiment.beside)
    head, *body = experiment.paper
    figures = [next((ours[start] for start in ours if title.startswith(start)), None) for title in head]
    table = []
    for line in (head, *body):
        cells = []
        for cell, figure in zip(line, figures, strict=True):
            cells.append(cell)
            if figure and rows:
                is_head = line is head
                label = f"ours: {FIGURES[figure].label} with / without"
                cells.append(label if is_head else _with_without(line[0], figure, experiment, by_name))
        table.append(tuple(cells))
    return tuple(table)


def _with_without(title: str, figure: str, experiment: Experiment, rows: Mapping[str, summary.Row]) -> str:
    host = title.lower().replace("-", "_")
    for one, other in experiment.pairs:
        if other.split(" ")[0] == host:
            both = [rows[name].figures[figure] for name in (one, other)]
            return " / ".join("-" if mean is None else plots.number(mean.mean) for mean in both)
    return "-"


def _strips(
    settings: StudySettings,
    experiment: Experiment,
    known: summary.Lines,
    prints: Mapping[str, str],
    frames: Path,
) -> list[tuple[str, Pictures]]:
    by_clip: dict[int, dict[str, str]] = {}
    for condition in experiment.conditions:
        for item in items_of(settings, experiment, condition):
            line = known.get(item.key(prints), {})
            if address := _address(frames, line.get("picture")):
                told = option_text(condition.options) if condition.kind == "edit" else ""
                label = condition.name + (f" ({told})" if told else "")
                by_clip.setdefault(item.clip, {})[label] = address
    return [(f"clip {clip}", tuple(pictures.items())) for clip, pictures in sorted(by_clip.items())]


def _maps(
    settings: StudySettings,
    experiment: Experiment,
    known: summary.Lines,
    prints: Mapping[str, str],
    frames: Path,
) -> Iterator[tuple[str, Pictures]]:
    for condition in experiment.conditions:
        for item in items_of(settings, experiment, condition):
            named: dict[str, Any] = known.get(item.key(prints), {}).get("maps", {})
            pictures = [
                (label, address) for label, name in named.items() if (address := _address(frames, name))
            ]
            if pictures:
                yield f"{condition.name}, clip {item.clip}", tuple(pictures)


def _address(frames: Path, name: str | None) -> str:
    """A picture as part of the page; empty where it is not there."""
    if not name or not (frames / name).is_file():
        return ""
    return "data:image/jpeg;base64," + base64.b64encode((frames / name).read_bytes()).decode()
