"""What an experiment found, in one sentence made from its intervals."""

import math
from collections.abc import Sequence

from evenreel.study.items import Experiment
from evenreel.study.report.formatting import FIGURES
from evenreel.study.report.plots import number
from evenreel.study.report.summary import FEWEST, Difference, Row, pareto


def answer(experiment: Experiment, rows: Sequence[Row], found: Sequence[Difference]) -> str:
    """Return what an experiment found, in one or two sentences; empty where nothing has been run."""
    if not any(row.done for row in rows):
        return ""
    if experiment.name == "controls":
        return _best_controls(experiment, rows)
    if found:
        return _differences(experiment, found)
    points = [
        (row.condition.name, kept.mean, asked.mean)
        for row in rows
        if (kept := row.figures.get("kept")) and (asked := row.figures.get("asked"))
    ]
    if len(points) > 4:
        front = ", ".join(dict.fromkeys(pareto(points)))
        return (
            f"No other setting has both more edit success and more of the rest kept than {front}."
            + _caution(max(one.count for row in rows if (one := row.figures["asked"])))
        )
    return _means(experiment, rows)


def _differences(experiment: Experiment, found: Sequence[Difference]) -> str:
    treatment = experiment.treatment
    of_whom = "on" if treatment else "with"

    def short(name: str) -> str:
        return subject(experiment, name)

    if few := [one.estimate.count for one in found if one.rests_on_few]:
        return f"With {min(few)} clips nothing can be concluded; the figures show a direction at most."
    figures = dict.fromkeys(one.figure for one in found)
    said, silent = [], []
    for figure in figures:
        label = _label(figure)
        mine = [one for one in found if one.figure == figure and one.is_there]
        up = [short(one.condition) for one in mine if one.estimate.mean > 0]
        down = [short(one.condition) for one in mine if one.estimate.mean < 0]
        words = {"more": ("better", "worse"), "less": ("worse", "better")}.get(
            FIGURES[figure].better, ("higher", "lower")
        )
        parts = [
            f"{word} {of_whom} {_listed(names)}"
            for word, names in zip(words, (up, down), strict=True)
            if names
        ]
        if parts:
            said.append(f"{label} is {' and '.join(sorted(parts))}")
        else:
            silent.append(label)
    compared = len({(one.condition, one.against) for one in found})
    of = "the comparison" if compared == 1 else f"any of {compared} comparisons"
    sentences = []
    if said:
        sentences.append("; ".join(said) + ".")
    if silent:
        sentences.append(f"No difference in {_listed(silent)} is found in {of}.")
    text = " ".join(sentences)
    if treatment and said:
        return f"With {treatment}, {text}"
    return text[0].upper() + text[1:]


def subject(experiment: Experiment, condition: str) -> str:
    """Return a condition's name without the treatment that all first ones of pairs have in common."""
    return condition.removesuffix(experiment.treatment).rstrip(" +") or condition


def _caution(clips: int) -> str:
    many = "clip" if clips == 1 else "clips"
    return "" if clips >= FEWEST else f" With {clips} {many} this can be no more than a direction."


def _best_controls(experiment: Experiment, rows: Sequence[Row]) -> str:
    """Which degenerate result has the best mean in what."""
    best: dict[str, list[str]] = {}
    for figure in experiment.figures:
        better = FIGURES[figure].better
        means = {
            row.condition.name: one.mean
            for row in rows
            if (one := row.figures[figure]) is not None and row.condition.name not in ("truth", "frame")
        }
        if not means or better == "neither":
            continue
        most = max(means.values()) if better == "more" else min(means.values())
        names = [name for name, mean in means.items() if math.isclose(mean, most)]
        best.setdefault(_listed(names), []).append(_label(figure))
    parts = [f"{names} in {_listed(labels)}" for names, labels in best.items()]
    best_had = "; by ".join(parts)
    return f"Of results that are none (right answer and plain edit aside), the best figures are had by {best_had}."


def _means(experiment: Experiment, rows: Sequence[Row]) -> str:
    parts = []
    for figure in experiment.figures:
        text = FIGURES[figure]
        unit = "%" if text.label.endswith(", %") else ""
        told = [
            (f"{row.condition.name} " if len(rows) > 1 else "") + number(text.scale * one.mean) + unit
            for row in rows
            if (one := row.figures[figure]) is not None
        ]
        if told:
            parts.append(f"{text.label.removesuffix(', %')}: {', '.join(told)}")
    text = "; ".join(parts)
    if not text:
        return ""
    clips = min(one.count for row in rows for one in row.figures.values() if one is not None)
    caution = "" if rows[0].condition.kind == "training" else _caution(clips)
    return text[0].upper() + text[1:] + "." + caution


def _label(figure: str) -> str:
    """Without its unit."""
    return FIGURES[figure].label.rpartition(",")[0] or FIGURES[figure].label


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
