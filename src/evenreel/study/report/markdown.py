"""An experiment as a table in Markdown, for documents that quote a study."""

from collections.abc import Sequence
from pathlib import Path

from evenreel.errors import SettingsError
from evenreel.metrics.statistics import Estimate
from evenreel.study import item_log
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.report import summary
from evenreel.study.report.formatting import FIGURES
from evenreel.study.study_record import read_record, settings_of


def markdown(folder: Path, name: str, only: Sequence[str] = (), *, medians: bool = False) -> str:
    """Return one row for each condition of experiment `name`, as recorded in `folder`: means over its items.

    Of the experiment's figures all are shown, or `only` these; with `medians`, the items' median after each mean.
    Of a condition that the experiment compares with another one also the mean difference, pair by pair, with its 95%
    interval; a star where the difference is there at the 5% level after Holm's adjustment. Raises: SettingsError.
    """
    record = read_record(folder)
    known, settings, prints = (
        item_log.read(folder / "items.jsonl"),
        settings_of(record),
        record["fingerprints"],
    )
    found = [one for one in experiments(settings) if one.name == name and not one.not_run]
    if not found:
        raise SettingsError(f"{folder} holds no results of an experiment {name[:40]!r}; see its report.")
    experiment = found[0]
    compared = {
        (one.condition, one.figure): one for one in summary.differences(settings, experiment, known, prints)
    }
    if unknown := [figure for figure in only if figure not in experiment.figures]:
        raise SettingsError(
            f"{name} has no figure {unknown[0][:40]!r}; it has {', '.join(experiment.figures)}."
        )
    figures = [figure for figure in FIGURES if figure in (only or experiment.figures)]
    rows = [["", "items", *(FIGURES[figure].label for figure in figures)], ["---"] * (2 + len(figures))]
    for row in summary.rows(settings, experiment, known, prints):
        cells = [
            _cell(
                FIGURES[figure].scale,
                row.figures.get(figure),
                compared.get((row.condition.name, figure)),
                medians=medians,
            )
            for figure in figures
        ]
        rows.append([row.condition.name, str(row.done), *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cell(
    scale: int | float, estimate: Estimate | None, difference: summary.Difference | None, *, medians: bool
) -> str:
    if estimate is None:
        return "-"
    text = _middle(estimate, scale, ".3g", medians=medians)
    if difference is None:
        return text
    change = difference.estimate
    star = "*" if difference.is_there else ""
    middle = _middle(change, scale, "+.2g", medians=medians)
    return f"{text} ({middle} [{scale * change.low:+.2g}, {scale * change.high:+.2g}]{star})"


def _middle(estimate: Estimate, scale: int | float, form: str, *, medians: bool) -> str:
    told = (estimate.mean, estimate.median) if medians else (estimate.mean,)
    return ", ".join(f"{scale * value:{form}}" for value in told)
