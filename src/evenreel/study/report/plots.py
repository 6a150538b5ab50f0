"""Plots as inline SVG: dots with whiskers, and scatter with a Pareto front. Colours follow the page, light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from evenreel.metrics.statistics import Estimate

Number = int | float
WIDTH = 500
LABELS = 190
"""Pixels for names at the left."""
ROW = 22


@dataclass(frozen=True)
class Axis:
    """A linear scale between two values and two places."""

    low: Number
    high: Number
    start: Number
    end: Number
    step: Number

    @classmethod
    def around(cls, values: Sequence[Number], start: Number, end: Number) -> "Axis":
        """Return an axis over round numbers that holds all values."""
        low, high = min(values), max(values)
        step = _round_step((high - low) or abs(high) or 1.0)
        low, high = step * (low // step), step * -(-high // step)
        return cls(low, high if high > low else low + step, start, end, step)

    def __call__(self, value: Number) -> Number:
        """Where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along the axis."""
        count = round((self.high - self.low) / self.step)
        return [self.low + self.step * index for index in range(count + 1)]


def _round_step(span: Number) -> Number:
    """A step of 1, 2 or 5 times a power of ten that divides a span into three to six parts."""
    power = 10.0
    while power > span:
        power /= 10
    while power * 10 <= span:
        power *= 10
    return next(power * part for part in (0.2, 0.5, 1.0, 2.0) if span / (power * part) <= 6)


def number(value: Number) -> str:
    """Return a figure with as many digits as it deserves."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _begun(height: int, across: Axis, up: Axis, x_unit: str, y_unit: str) -> list[str]:
    """A plot of two axes, as far as its grid and their numbers."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(y_unit)} over {escape(x_unit)}">'
    ]
    for tick in across.ticks:
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="34" y2="{height - 44}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 28}">{number(tick)}</text>')
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="60" x2="{WIDTH - 24}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="name" x="52" y="{y + 4:.1f}">{number(tick)}</text>')
    return parts


def dots(rows: Sequence[tuple[str, Estimate | None]], unit: str, *, zero: bool = False) -> str:
    """Return a dot for each mean, a line for its 95% interval; `zero` marks zero, for differences."""
    known = [estimate for _, estimate in rows if estimate is not None]
    if not known:
        return ""
    values = [value for one in known for value in (one.low, one.high)]
    axis = Axis.around([*values, 0.0] if zero else values, LABELS, WIDTH - 20)
    height = ROW * len(rows) + 42
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(unit)}">']
    for tick in axis.ticks:
        x = axis(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 38}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 22}">{number(tick)}</text>')
    if zero:
        parts.append(f'<line class="zero" x1="{axis(0):.1f}" x2="{axis(0):.1f}" y1="4" y2="{height - 38}"/>')
    for index, (name, estimate) in enumerate(rows):
        y = 4 + ROW * (index + 0.5)
        parts.append(f'<text class="name" x="{LABELS - 8}" y="{y + 4:.1f}">{escape(name)}</text>')
        if estimate is not None:
            low, mean, high = axis(estimate.low), axis(estimate.mean), axis(estimate.high)
            parts.append(f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
            parts.append(f'<circle cx="{mean:.1f}" cy="{y}" r="4"/>')
    parts.append(f'<text class="unit" x="{WIDTH - 20}" y="{height - 4}">{escape(unit)}</text></svg>')
    return "".join(parts)


def scatter(
    points: Sequence[tuple[str, Number, Number]], front: Sequence[str], x_unit: str, y_unit: str
) -> str:
    """Draw named points; those of the Pareto front are filled and joined. Points in one place share a label."""
    if not points:
        return ""
    places: dict[tuple[Number, Number], list[str]] = {}
    for name, x, y in points:
        places.setdefault((x, y), []).append(name)
    height = 360
    across = Axis.around([x for _, x, _ in points], 60, WIDTH - 24)
    up = Axis.around([y for _, _, y in points], height - 44, 34)
    parts = _begun(height, across, up, x_unit, y_unit)
    best = sorted((x, y) for name, x, y in points if name in front)
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in best)
    parts.append(f'<polyline class="front" points="{line}"/>')
    for (x, y), names in places.items():
        kind = "" if names[0] in front else ' class="beaten"'
        parts.append(f'<circle{kind} cx="{across(x):.1f}" cy="{up(y):.1f}" r="4"/>')
        right = across(x) > WIDTH / 2
        anchor = (
            f'class="point end" x="{across(x) - 7:.1f}"'
            if right
            else f'class="point" x="{across(x) + 7:.1f}"'
        )
        for index, name in enumerate(names):
            parts.append(f'<text {anchor} y="{up(y) + 4 + 14 * index:.1f}">{escape(name)}</text>')
    parts.append(f'<text class="unit" x="{WIDTH - 24}" y="{height - 8}">{escape(x_unit)}</text>')
    parts.append(f'<text class="point" x="60" y="12">{escape(y_unit)}</text></svg>')
    return "".join(parts)


@dataclass(frozen=True)
class Curve:
    """A named line, with a band around it where its spread is known."""

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()


def curves(lines: Sequence[Curve], x_unit: str, y_unit: str, *, descending: bool = False) -> str:
    """Return lines over a common axis, up to four; `descending` lets it run from large to small, as timesteps do."""
    lines = [line for line in lines if len(line.x) > 1]
    if not lines:
        return ""
    height = 300
    ends = (WIDTH - 24, 60) if descending else (60, WIDTH - 24)
    across = Axis.around([x for line in lines for x in line.x], *ends)
    up = Axis.around([y for line in lines for y in (*line.y, *line.low, *line.high)], height - 44, 34)
    parts = _begun(height, across, up, x_unit, y_unit)
    for index, line in enumerate(lines):
        kind = f"line{index % 4}"
        if line.low:
            there = [f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
            back = [f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
            parts.append(f'<polygon class="band {kind}" points="{" ".join([*there, *reversed(back)])}"/>')
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline class="curve {kind}" points="{points}"/>')
        left = 60 + index * 130
        parts.append(f'<line class="curve {kind}" x1="{left}" x2="{left + 18}" y1="24" y2="24"/>')
        parts.append(f'<text class="point" x="{left + 23}" y="28">{escape(line.name)}</text>')
    parts.append(f'<text class="unit" x="{WIDTH - 24}" y="{height - 8}">{escape(x_unit)}</text>')
    parts.append(f'<text class="point" x="60" y="12">{escape(y_unit)}</text></svg>')
    return "".join(parts)
