"""Evaluations as tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import stdout

if TYPE_CHECKING:
    from evenreel.metrics.base import Figure
    from evenreel.workflows.evaluation.evaluate import Evaluation, Failure

ARROWS = {"higher": "↑", "lower": "↓", "one": "→ 1"}
"""Which way is good."""


def print_one(evaluation: "Evaluation") -> None:
    """Print every figure of one pair, and why others are missing."""
    console, pair = stdout(), evaluation.pair
    width, height = evaluation.size
    count = f"{evaluation.frames} frame{'' if evaluation.frames == 1 else 's'}"
    console.print(f"{pair.edit} against {pair.source}: {count} at {width} x {height}", markup=False)
    if pair.prompt:
        asked = f'"{pair.source_prompt}" -> "{pair.prompt}"' if pair.source_prompt else f'"{pair.prompt}"'
        console.print(asked, markup=False)
    console.print()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "value", "", "note"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for name, figure in evaluation.figures.items():
        if figure.value is not None:
            unit, better = _unit_and_better(name)
            table.add_row(name, f"{number(figure.value)} {unit}".strip(), ARROWS[better], escape(figure.note))
    console.print(table)
    _print_unavailable(evaluation.figures)
    models = [f"{what}: {model['name']}" for what, model in evaluation.models.items()]
    for line in [*models, *([f"flow: {evaluation.flow}"] if evaluation.flow else []), *evaluation.notes]:
        console.print(f"- {line}", markup=False)


def _print_unavailable(figures: "Mapping[str, Figure]") -> None:
    reasons: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure.value is None:
            reasons.setdefault(figure.unavailable, []).append(name)
    console = stdout()
    console.print("\n[bold]unavailable[/]" if reasons else "")
    for reason, names in reasons.items():
        console.print(f"{', '.join(names)}: {reason}", markup=False)
    console.print()


def print_many(values: Mapping[str, Any], failures: "Sequence[Failure]") -> None:
    """Print means and medians over many pairs, and what could not be measured."""
    console = stdout()
    total = len(values["pairs"]) + len(failures)
    console.print(f"{len(values['pairs'])} of {total} pairs measured; mean [95% interval over sources]\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "mean", "", "interval", "median", "pairs"):
        table.add_column(column, justify="right" if column in ("mean", "median", "pairs") else "left")
    for name, mean in values["means"].items():
        if mean is None:
            continue
        known = mean["low"] is not None
        interval = f"[{number(mean['low'])}, {number(mean['high'])}]" if known else "one source only"
        unit, better = mean["unit"], mean["better"]
        table.add_row(
            name,
            f"{number(mean['mean'])} {unit}".strip(),
            ARROWS[better],
            escape(interval),
            number(mean["median"]),
            str(mean["pairs"]),
        )
    console.print(table)
    without = [name for name, mean in values["means"].items() if mean is None]
    if without:
        console.print(
            f"\nunavailable for every pair: {', '.join(without)} (reasons in the JSON)", markup=False
        )
    lines = [f"{what}: {name}" for what, name in _used(values["pairs"])]
    lines += [f"failed: {item.pair.edit}: {item.error}" for item in failures]
    for line in [*lines, *(f"not paired: {text}" for text in values["unpaired"])]:
        console.print(f"- {line}", markup=False)


def _used(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Models and sources of flow, each once: figures of one cannot be compared with those of another."""
    models = [(what, model["name"]) for pair in pairs for what, model in pair["models"].items()]
    flows = [
        "given in files" if pair["flow"].startswith("given in ") else pair["flow"]
        for pair in pairs
        if pair["flow"]
    ]
    return list(dict.fromkeys([*models, *(("flow", flow) for flow in flows)]))


def _unit_and_better(name: str) -> tuple[str, str]:
    from evenreel.metrics.base import find

    kind = find(name)
    return kind.unit, kind.better


def number(value: float) -> str:
    """Write a number with four significant digits, small ones too."""
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
