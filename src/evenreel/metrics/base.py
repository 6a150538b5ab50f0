"""What a metric is: a class that looks at one window after the other and ends with a figure, or with a reason for none.

Metrics are found through the entry-point group `evenreel.metrics`; built-ins and plug-ins use the same door.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from evenreel import registry
from evenreel.errors import PluginError
from evenreel.metrics.needs import NEEDS, first_paragraph, place
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window


class Metric(ABC):
    """One figure of one pair of clips. The first paragraph of a metric's docstring is its definition.

    An instance measures one pair. Its constructor, `add` and `value` may raise UnavailableError; then there is no
    figure, and the reason is shown in its place.
    """

    family: ClassVar[str] = "other"
    """Which metrics it is listed with."""
    label: ClassVar[str] = ""
    """Its name in tables for people, without the unit; empty: the name under which it is registered."""
    unit: ClassVar[str] = ""
    """Of the figure: `dB`, `%`, or nothing for a plain number."""
    shown_in: ClassVar[float] = 1.0
    """What reports show figures in multiples of, as 1e-3 where they are small."""
    better: ClassVar[Literal["higher", "lower", "one"]]
    """Which way is good; `one` where the right answer has 1 and both ways lead away from it."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Keys of NEEDS; all are there when an instance is made."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    @abstractmethod
    def add(self, window: Window) -> None:
        """Look at the next window of frames of both clips."""

    @abstractmethod
    def value(self) -> float:
        """Return the figure, after the last window."""

    @property
    def note(self) -> str:
        """What should stand beside the figure, if anything."""
        return ""


@dataclass(frozen=True)
class Figure:
    """What became of a metric: a value, or the reason why there is none."""

    value: float | None
    unavailable: str = ""
    """The reason; empty where there is a value."""
    note: str = ""
    """What should stand beside the value."""


class Mean:
    """A mean over values that come in portions, added up in double precision."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: Tensor) -> None:
        """Take every element of a tensor into the mean."""
        self.total += float(values.double().sum())
        self.count += values.numel()

    def value(self, empty: str) -> float:
        """Return the mean; UnavailableError with the reason `empty` where nothing was added."""
        if not self.count:
            raise UnavailableError(empty)
        return self.total / self.count


def measure(
    windows: Iterable[Window], metrics: Mapping[str, type[Metric]], inputs: Inputs
) -> dict[str, Figure]:
    """Return every metric of one pair of clips, in one pass over its windows."""
    figures: dict[str, Figure] = {}
    running: dict[str, Metric] = {}
    for name, kind in metrics.items():
        try:
            running[name] = _begun(kind, inputs)
        except UnavailableError as error:
            figures[name] = Figure(None, str(error))
    for window in windows:
        for name, metric in list(running.items()):
            try:
                metric.add(window)
            except UnavailableError as error:
                figures[name] = Figure(None, str(error))
                del running[name]
    figures |= {name: _ended(metric) for name, metric in running.items()}
    return {name: figures[name] for name in metrics}


def missing(kind: type[Metric], inputs: Inputs) -> list[str]:
    """Return what a metric needs and `inputs` lack: keys of NEEDS."""
    return [need for need in kind.needs if getattr(inputs, need) in (None, False)]


def definition(kind: type[Metric]) -> str:
    """Return the first paragraph of a metric's docstring, on one line."""
    return first_paragraph(inspect.getdoc(kind) or "")


def registered() -> dict[str, type[Metric] | PluginError]:
    """Return all metrics by name, in the order in which they are shown; of one that fails to load, the error."""
    found: dict[str, type[Metric] | PluginError] = {}
    for name in registry.names(registry.METRICS):
        try:
            found[name] = find(name)
        except PluginError as error:
            found[name] = error
    return dict(sorted(found.items(), key=lambda item: place(*_family(item))))


def _family(item: tuple[str, type[Metric] | PluginError]) -> tuple[str, str]:
    name, kind = item
    return name, kind.family if isinstance(kind, type) else "other"


def find(name: str) -> type[Metric]:
    """Return a metric by name. Raises: PluginError for an unknown name, or for something that is not a metric."""
    kind = registry.find(registry.METRICS, name)
    if not (isinstance(kind, type) and issubclass(kind, Metric)):
        raise PluginError(f"the metric {name!r} is not a class derived from evenreel.metrics.base.Metric.")
    if getattr(kind, "better", None) not in ("higher", "lower", "one") or not set(kind.needs) <= NEEDS.keys():
        raise PluginError(
            f"the metric {name!r} must say better = 'higher', 'lower' or 'one' and need nothing but {', '.join(NEEDS)}."
        )
    return kind


def _begun(kind: type[Metric], inputs: Inputs) -> Metric:
    if lacking := missing(kind, inputs):
        raise UnavailableError("; ".join(NEEDS[need] for need in lacking))
    return kind(inputs)


def _ended(metric: Metric) -> Figure:
    try:
        value = float(metric.value())
    except UnavailableError as error:
        return Figure(None, str(error))
    if not math.isfinite(value):
        return Figure(None, f"it came out as {value}, which is not a measurement")
    return Figure(value, note=metric.note)
