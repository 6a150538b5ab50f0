"""One metric of two clips in memory, in windows of any length."""

from evenreel.metrics.base import Figure, Metric, measure
from evenreel.metrics.window import Inputs, cut, windows


def figure(kind: type[Metric], source, edit, *, background=None, truth=None, length=16, **known) -> Figure:
    inputs = Inputs(mask=background is not None, truth=truth is not None, **known)
    parts = cut(source, edit, background, truth, length)
    return measure(windows(parts, inputs), {"it": kind}, inputs)["it"]


def value(kind: type[Metric], source, edit, **known) -> float:
    found = figure(kind, source, edit, **known)
    assert found.value is not None, found.unavailable
    return found.value
