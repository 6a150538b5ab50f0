"""`evenreel evaluate` and `evenreel metrics`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError
from evenreel.settings import parse_frames

if TYPE_CHECKING:
    from evenreel.metrics.base import Figure
    from evenreel.workflows.evaluate import Evaluation, Evaluator, Failure
    from evenreel.workflows.pairs import Pair

CLIPS, WEIGHTS, RESULTS = "Clips", "Weights", "Results"
"""Groups of options on the help page."""
VARIABLES = {"clip": "EVENREEL_CLIP", "lpips": "EVENREEL_LPIPS", "dino": "EVENREEL_DINO"}
"""Environment variables that stand for options."""
ARROWS = {"higher": "↑", "lower": "↓"}

EPILOG = """[bold]Examples[/]

evenreel evaluate ball.mp4 star.mp4 --prompt "a blue star rolling over snow"

evenreel evaluate ski.mov moon.mp4 --mask masks/ --clip models/clip-vit-large-patch14 --lpips lpips.safetensors
-o moon-figures.json

evenreel evaluate sources/ edits/ --json

evenreel evaluate --pairs study.csv
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("evaluate", epilog=EPILOG)(evaluate)
    app.command("metrics")(metrics)


def _option(panel: str, help_text: str, *names: str, **details: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, **details)


def evaluate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="SOURCE", help="The clip that was edited, or a folder of such clips."),
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Argument(metavar="EDIT", help="The edited clip, or a folder of clips with the sources' names."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What EDIT was to show.", show_default="from the record EDIT.json"
        ),
    ] = None,
    source_prompt: Annotated[
        str | None, _option(CLIPS, "What SOURCE shows.", show_default="from the record EDIT.json")
    ] = None,
    frames: Annotated[
        str | None,
        _option(CLIPS, "Frames START:END of SOURCE were edited.", show_default="from the record, or all"),
    ] = None,
    mask: Annotated[
        Path | None,
        _option(CLIPS, "What was to be edited (white), as a clip or one image; the rest is background."),
    ] = None,
    flow: Annotated[
        Path | None,
        _option(
            CLIPS, "Motion of SOURCE: a folder of .flo or .npy files.", show_default="estimated with OpenCV"
        ),
    ] = None,
    truth: Annotated[Path | None, _option(CLIPS, "The right answer, as a clip.")] = None,
    pairs: Annotated[
        Path | None,
        _option(
            CLIPS,
            "Many pairs instead: a .json or .csv with source, edit, prompt, ... for each.",
            metavar="FILE",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        _option(
            WEIGHTS,
            "A CLIP folder in transformers' layout, or `mini` for clips of the world.",
            envvar=VARIABLES["clip"],
            show_default="`mini` where the mini model made the edit",
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        _option(
            WEIGHTS, "LPIPS on AlexNet, a .safetensors file; see docs/metrics.md.", envvar=VARIABLES["lpips"]
        ),
    ] = None,
    dino: Annotated[
        str | None,
        _option(WEIGHTS, "A DINO ViT folder in transformers' layout.", envvar=VARIABLES["dino"]),
    ] = None,
    device: Annotated[str, _option(WEIGHTS, "Where models run: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    metric: Annotated[
        list[str] | None,
        _option(RESULTS, "Only this metric; may be repeated. See `evenreel metrics`.", metavar="NAME"),
    ] = None,
    output: Annotated[Path | None, _option(RESULTS, "Write everything as JSON, too.", "--out", "-o")] = None,
    as_json: Annotated[bool, _option(RESULTS, "Print JSON instead of a table.", "--json")] = False,
    quiet: Annotated[
        bool, _option(RESULTS, "Print nothing but errors, and JSON if asked for.", "--quiet", "-q")
    ] = False,
) -> None:
    """Measure EDIT against SOURCE: what was kept, what was asked for, what is steady.

    A figure that cannot be had (no weights, no mask, a single frame) is shown as unavailable, with the reason.
    Definitions: `evenreel metrics NAME`. The exit status is 1 when some of several pairs could not be measured.
    """
    from evenreel.workflows import evaluation_json
    from evenreel.workflows.evaluate import Evaluator, Failure
    from evenreel.workflows.pairs import Pair, in_file, in_folders, is_collection

    if output is not None:
        evaluation_json.check_place(output)
    asked = [name for name, value in (("SOURCE", source), ("EDIT", edit)) if value is not None]
    if pairs is not None and (
        asked or any(v is not None for v in (mask, flow, truth, frames, prompt, source_prompt))
    ):
        raise SettingsError(
            "--pairs names clips, prompts and all that belongs to them in its file; give nothing beside it."
        )
    if pairs is None and len(asked) < 2:
        raise SettingsError("give SOURCE and EDIT, or a list with --pairs; see `evenreel evaluate --help`.")
    evaluator = Evaluator(
        metrics=tuple(dict.fromkeys(metric or ())), clip=clip, lpips=lpips, dino=dino, device=device
    )
    unpaired: list[str] = []
    if pairs is not None:
        found = in_file(pairs)
    else:
        assert source is not None
        assert edit is not None
        common = Pair(
            source=source,
            edit=edit,
            prompt=prompt,
            source_prompt=source_prompt,
            mask=mask,
            flow=flow,
            truth=truth,
            frames=None if frames is None else parse_frames(frames),
        )
        if not (is_collection(source) and is_collection(edit)):
            _single(evaluator, common, output, as_json=as_json, quiet=quiet)
            return
        found, unpaired = in_folders(common)
    with shown_progress(quiet) as progress:
        results = list(evaluator.evaluate_all(found, progress))
    values = evaluation_json.many(results, unpaired)
    _deliver(values, output, as_json=as_json)
    failures = [item for item in results if isinstance(item, Failure)]
    if not (as_json or quiet):
        _print_many(values, failures)
    if failures:
        raise typer.Exit(1)


def _single(evaluator: "Evaluator", pair: "Pair", output: Path | None, *, as_json: bool, quiet: bool) -> None:
    from evenreel.workflows import evaluation_json

    with shown_progress(quiet) as progress:
        evaluation = evaluator.evaluate(pair, progress)
    _deliver(evaluation_json.one(evaluation), output, as_json=as_json)
    if not (as_json or quiet):
        _print_one(evaluation)


def _deliver(values: Mapping[str, Any], output: Path | None, *, as_json: bool) -> None:
    from evenreel.workflows import evaluation_json

    if output is not None:
        evaluation_json.write(values, output)
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False))


def _print_one(evaluation: "Evaluation") -> None:
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
            table.add_row(
                name, f"{_number(figure.value)} {unit}".strip(), ARROWS[better], escape(figure.note)
            )
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


def _print_many(values: Mapping[str, Any], failures: "Sequence[Failure]") -> None:
    console = stdout()
    total = len(values["pairs"]) + len(failures)
    console.print(f"{len(values['pairs'])} of {total} pairs measured; mean [95% interval over sources]\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "mean", "", "interval", "pairs"):
        table.add_column(column, justify="right" if column in ("mean", "pairs") else "left")
    for name, mean in values["means"].items():
        if mean is None:
            continue
        interval = f"[{_number(mean['low'])}, {_number(mean['high'])}]"
        unit, better = mean["unit"], mean["better"]
        table.add_row(
            name,
            f"{_number(mean['mean'])} {unit}".strip(),
            ARROWS[better],
            escape(interval),
            str(mean["pairs"]),
        )
    console.print(table)
    without = [name for name, mean in values["means"].items() if mean is None]
    if without:
        console.print(
            f"\nunavailable for every pair: {', '.join(without)} (reasons in the JSON)", markup=False
        )
    lines = [f"failed: {item.pair.edit}: {item.error}" for item in failures]
    for line in [*lines, *(f"not paired: {text}" for text in values["unpaired"])]:
        console.print(f"- {line}", markup=False)


def _unit_and_better(name: str) -> tuple[str, str]:
    from evenreel.metrics.base import find

    kind = find(name)
    return kind.unit, kind.better


def _number(value: float) -> str:
    """Four significant digits, small ones too."""
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"


def metrics(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One metric, with its exact definition.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the metrics with their definitions, and whether they can be computed here."""
    import os

    from evenreel.workflows.metric_list import describe_metric, describe_metrics

    given = [need for need, variable in VARIABLES.items() if os.environ.get(variable)]
    found = describe_metrics(given) if name is None else [describe_metric(name, given)]
    console = stdout()
    if as_json:
        listed = [{**dataclasses.asdict(item), "available": item.available} for item in found]
        typer.echo(json.dumps(listed if name is None else listed[0], indent=2))
    elif name is not None:
        item = found[0]
        good = f"{item.better} is better" + (f", in {item.unit}" if item.unit else "")
        console.print(f"{item.details}\n\n{item.family}; {good}", markup=False)
        console.print(f"needs: {', '.join(item.needs) or 'nothing but the clips'}", markup=False)
        console.print(f"here: {'; '.join(item.missing) or 'available'}", markup=False)
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("metric", no_wrap=True)
        table.add_column("definition", overflow="fold")
        table.add_column("needs", overflow="fold")
        for item in found:
            needs = (
                "\n".join(item.needs) if item.available else f"[yellow]{escape(chr(10).join(item.needs))}[/]"
            )
            table.add_row(f"{item.name} {ARROWS.get(item.better, '')}", escape(item.definition), needs)
        console.print(table)
        console.print()
        lacking = dict.fromkeys(reason for item in found for reason in item.missing)
        for reason in lacking:
            console.print(f"- {reason}", markup=False)
        console.print("\nThe exact definition of one: evenreel metrics NAME")
