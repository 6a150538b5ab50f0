"""From items to figures with intervals: what the tables and plots of the report show, and nothing else computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenreel.metrics.statistics import Estimate, cluster_bootstrap, effect_size, holm
from evenreel.study.items import Condition, Experiment
from evenreel.study.run.runner import items_of
from evenreel.study.settings import StudySettings

FEWEST = 6
"""Clips from which on a difference can be found: that five all agree happens by chance in 1 of 16 cases."""

Lines = Mapping[str, Mapping[str, Any]]
"""Items of the record, by key."""


@dataclass(frozen=True)
class Row:
    """One condition of an experiment."""

    condition: Condition
    figures: Mapping[str, Estimate | None]
    """Mean and interval over clips; None where no item has the figure."""
    done: int
    failed: int
    wanted: int
    """Items finished, failed, and planned."""
    seconds: float | None
    """Mean time of an item."""


@dataclass(frozen=True)
class Difference:
    """One figure of a condition against that of another one, pair by pair."""

    condition: str
    against: str
    figure: str
    estimate: Estimate
    """Mean of the differences."""
    effect: float | None
    """Mean difference over the standard deviation of differences (d_z); None where they do not vary."""
    p: float
    """Two-sided, from the bootstrap, adjusted by Holm's method within the experiment."""

    @property
    def is_there(self) -> bool:
        """Whether there is a difference at the 5% level after adjustment; with few clips there is none to be found."""
        return self.p < 0.05 and not self.rests_on_few

    @property
    def rests_on_few(self) -> bool:
        """Whether there are too few clips for the interval, and p, to be believed."""
        return self.estimate.count < FEWEST


def rows(
    settings: StudySettings, experiment: Experiment, lines: Lines, prints: Mapping[str, str]
) -> list[Row]:
    """Return all conditions, with what has been run of them."""
    return [_row(settings, experiment, condition, lines, prints) for condition in experiment.conditions]


def _items(
    settings: StudySettings,
    experiment: Experiment,
    condition: Condition,
    lines: Lines,
    prints: Mapping[str, str],
) -> dict[tuple[int, int], Mapping[str, Any]]:
    found: dict[tuple[int, int], Mapping[str, Any]] = {}
    for item in items_of(settings, experiment, condition):
        if line := lines.get(item.key(prints)):
            found[item.clip, item.seed] = line
    return found


def _row(
    settings: StudySettings,
    experiment: Experiment,
    condition: Condition,
    lines: Lines,
    prints: Mapping[str, str],
) -> Row:
    items = _items(settings, experiment, condition, lines, prints)
    good = {place: item["figures"] for place, item in items.items() if "figures" in item}
    figures: dict[str, Estimate | None] = {}
    for name in experiment.figures:
        pairs = [
            (value, clip) for (clip, _), figure in good.items() if (value := figure.get(name)) is not None
        ]
        figures[name] = cluster_bootstrap(*zip(*pairs, strict=True)) if pairs else None
    # Seeds that change nothing share one item.
    once = {item["key"]: item for item in items.values()}
    seconds = [item["seconds"] for item in once.values() if "figures" in item]
    return Row(
        condition=condition,
        figures=figures,
        done=len(seconds),
        failed=len(once) - len(seconds),
        wanted=len({item.key(prints) for item in items_of(settings, experiment, condition)}),
        seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def differences(
    settings: StudySettings, experiment: Experiment, lines: Lines, prints: Mapping[str, str]
) -> list[Difference]:
    """Return every pair of the experiment in every figure, over the items that both have; adjusted for their number."""
    by_name = {condition.name: condition for condition in experiment.conditions}
    found: list[tuple[str, str, str, Estimate, float | None, float]] = []
    for name, against in experiment.pairs:
        mine = _items(settings, experiment, by_name[name], lines, prints)
        theirs = _items(settings, experiment, by_name[against], lines, prints)
        shared = [
            (place[0], mine[place]["figures"], theirs[place]["figures"])
            for place in mine.keys() & theirs.keys()
            if "figures" in mine[place] and "figures" in theirs[place]
        ]
        for figure in experiment.tested:
            pairs = [
                (ours[figure] - other[figure], clip)
                for clip, ours, other in sorted(shared, key=lambda one: one[0])
                if ours.get(figure) is not None and other.get(figure) is not None
            ]
            if len({clip for _, clip in pairs}) < 2:
                continue  # one clip has no spread
            values, clips = zip(*pairs, strict=True)
            estimate = cluster_bootstrap(values, clips)
            found.append((name, against, figure, estimate, effect_size(values), estimate.p))
    adjusted = holm([one[-1] for one in found])
    return [Difference(*one[:-1], p) for one, p in zip(found, adjusted, strict=True)]


def curve(
    settings: StudySettings,
    experiment: Experiment,
    condition: Condition,
    lines: Lines,
    prints: Mapping[str, str],
    x: str,
    y: str,
) -> list[tuple[float, Estimate]]:
    """Return the series `y` of the items over their series `x`: at each place the mean and interval over clips, in
    their order."""
    found: dict[float, list[tuple[float, int]]] = {}
    for (clip, _), item in _items(settings, experiment, condition, lines, prints).items():
        series = item.get("series", {})
        for place, value in zip(series.get(x, ()), series.get(y, ()), strict=True):
            found.setdefault(place, []).append((value, clip))
    return [(place, cluster_bootstrap(*zip(*pairs, strict=True))) for place, pairs in found.items()]


def pareto(points: Sequence[tuple[str, int | float, int | float]]) -> list[str]:
    """Return names of the points that no other one beats in both coordinates (more is better in both)."""
    return [
        name
        for name, x, y in points
        if not any(a >= x and b >= y and (a > x or b > y) for other, a, b in points if other != name)
    ]
