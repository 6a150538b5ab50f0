"""`evenreel evaluate` and `evenreel metrics`."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.evaluation_tables import ARROWS, print_many, print_one
from evenreel.errors import SettingsError
from evenreel.installed import WEIGHTS as VARIABLES
from evenreel.settings.kinds import parse_frames

if TYPE_CHECKING:
    from evenreel.workflows.evaluation.evaluate import Evaluator
    from evenreel.workflows.evaluation.pairs import Pair

CLIPS, WEIGHTS, RESULTS = "Clips", "Weights", "Results"
"""Groups of options on the help page."""
BENCHMARKS = "five, v2vbench, tgve, davis or msr-vtt"

EPILOG = """[bold]Examples[/]

evenreel evaluate ball.mp4 star.mp4 --prompt "a blue star rolling over snow"

evenreel evaluate ski.mov moon.mp4 --mask masks/ --clip models/clip-vit-large-patch14 --lpips lpips.safetensors
-o moon-figures.json

evenreel evaluate sources/ edits/ --json

evenreel evaluate --pairs study.csv

evenreel evaluate FiVE/ edits/ --benchmark five --list > edits.sh
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
        typer.Argument(metavar="SOURCE", help="Clip that was edited, or a folder of such clips."),
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Argument(
            metavar="EDIT", help="Edited clip, or a folder of edited clips with the sources' names."
        ),
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
        _option(
            CLIPS, "Frames of SOURCE that were edited, as START:END.", show_default="from the record, or all"
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        _option(
            CLIPS, "Clip, or one image, that shows in white what was to be edited; the rest is background."
        ),
    ] = None,
    flow: Annotated[
        Path | None,
        _option(
            CLIPS,
            "Folder with the motion of SOURCE, as .flo or .npy files.",
            show_default="estimated with OpenCV",
        ),
    ] = None,
    truth: Annotated[Path | None, _option(CLIPS, "Clip that is the right answer.")] = None,
    pairs: Annotated[
        Path | None,
        _option(
            CLIPS,
            "File of many pairs, in place of SOURCE and EDIT: .json or .csv with source, edit, prompt, ... of each.",
            metavar="FILE",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        _option(
            CLIPS,
            f"Benchmark whose folder SOURCE is, and whose edits lie in EDIT: {BENCHMARKS}; see docs/metrics.md.",
            metavar="NAME",
        ),
    ] = None,
    listed: Annotated[
        bool,
        _option(
            CLIPS,
            "Print a command for each edit of --benchmark that is not made yet, and measure nothing.",
            "--list",
        ),
    ] = False,
    clip: Annotated[
        str | None,
        _option(
            WEIGHTS,
            "CLIP that looks at frames: a folder in transformers' layout, or `mini` for clips of the rendered world.",
            envvar=VARIABLES["clip"],
            show_default="`mini` where the mini model made the edit",
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        _option(
            WEIGHTS,
            "Weights of LPIPS on AlexNet: a .safetensors file; see docs/metrics.md.",
            envvar=VARIABLES["lpips"],
        ),
    ] = None,
    dino: Annotated[
        str | None,
        _option(WEIGHTS, "DINO ViT: a folder in transformers' layout.", envvar=VARIABLES["dino"]),
    ] = None,
    inception: Annotated[
        Path | None,
        _option(
            WEIGHTS,
            "Weights of the Inception v3 of FID: a .safetensors file; see docs/metrics.md.",
            envvar=VARIABLES["inception"],
        ),
    ] = None,
    device: Annotated[
        str, _option(WEIGHTS, "Device to compute on: auto, cpu, cuda, cuda:1 or mps.")
    ] = "auto",
    metric: Annotated[
        list[str] | None,
        _option(
            RESULTS,
            "Metric to compute, and no others; may be given several times. `evenreel metrics` lists them.",
            metavar="NAME",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _option(RESULTS, "JSON file to write all figures to, besides printing them.", "--out", "-o"),
    ] = None,
    as_json: Annotated[bool, _option(RESULTS, "Print JSON instead of a table.", "--json")] = False,
    quiet: Annotated[
        bool, _option(RESULTS, "Print nothing but errors, and JSON if asked for.", "--quiet", "-q")
    ] = False,
) -> None:
    """Measure EDIT against SOURCE: what was kept, what was asked for, what is steady.

    A figure that cannot be had (no weights, no mask, a single frame) is shown as unavailable, with the reason.
    Definitions: `evenreel metrics NAME`. The exit status is 1 when some of several pairs could not be measured.
    """
    from evenreel.workflows.evaluation import benchmarks, json_output
    from evenreel.workflows.evaluation.evaluate import Evaluator, Failure
    from evenreel.workflows.evaluation.pairs import Pair, in_file, in_folders, is_collection

    if output is not None:
        json_output.check_place(output)
    beside = (mask, flow, truth, frames, prompt, source_prompt, benchmark)
    if pairs is not None and any(value is not None for value in (source, edit, *beside)):
        raise SettingsError(
            "--pairs names clips, prompts and all that belongs to them in its file; give nothing beside it."
        )
    if pairs is None and (source is None or edit is None):
        raise SettingsError("give SOURCE and EDIT, or a list with --pairs; see `evenreel evaluate --help`.")
    if benchmark is not None and any(value is not None for value in (mask, flow, truth)):
        raise SettingsError("--benchmark knows its masks; leave out --mask, --flow and --truth.")
    if listed and benchmark is None:
        raise SettingsError("--list lists the edits of a benchmark; name it with --benchmark.")

    def evaluator() -> "Evaluator":
        names = tuple(dict.fromkeys(metric or ()))
        return Evaluator(metrics=names, clip=clip, lpips=lpips, dino=dino, inception=inception, device=device)

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
            frames=None if frames is None else parse_frames("frames", frames),
        )
        if benchmark is not None:
            found = benchmarks.read_benchmark(benchmark, common)
            if listed:
                for line in benchmarks.commands(found):
                    typer.echo(line)
                return
            found, unpaired = benchmarks.to_measure(benchmark, found)
        elif is_collection(source) and is_collection(edit):
            found, unpaired = in_folders(common)
        else:
            _single(evaluator(), common, output, as_json=as_json, quiet=quiet)
            return
    measuring = evaluator()
    with shown_progress(quiet) as progress:
        results = list(measuring.evaluate_all(found, progress))
    values = json_output.many(results, unpaired, benchmark)
    _deliver(values, output, as_json=as_json)
    failures = [item for item in results if isinstance(item, Failure)]
    if not (as_json or quiet):
        print_many(values, failures)
    if failures:
        raise typer.Exit(1)


def _single(evaluator: "Evaluator", pair: "Pair", output: Path | None, *, as_json: bool, quiet: bool) -> None:
    from evenreel.workflows.evaluation import json_output

    with shown_progress(quiet) as progress:
        evaluation = evaluator.evaluate(pair, progress)
    _deliver(json_output.one(evaluation), output, as_json=as_json)
    if not (as_json or quiet):
        print_one(evaluation)


def _deliver(values: Mapping[str, Any], output: Path | None, *, as_json: bool) -> None:
    from evenreel.workflows.evaluation import json_output

    if output is not None:
        json_output.write(values, output)
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False))


def metrics(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Metric to show, with its exact definition.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the metrics with their definitions, and whether they can be computed here."""
    import os

    from evenreel.workflows.inspect.metric_list import describe_metric, describe_metrics

    given = [need for need, variable in VARIABLES.items() if os.environ.get(variable)]
    found = describe_metrics(given) if name is None else [describe_metric(name, given)]
    console = stdout()
    if as_json:
        listed = [{**dataclasses.asdict(item), "available": item.available} for item in found]
        typer.echo(json.dumps(listed if name is None else listed[0], indent=2))
    elif name is not None:
        item = found[0]
        good = ("1 is right" if item.better == "one" else f"{item.better} is better") + (
            f", in {item.unit}" if item.unit else ""
        )
        console.print(f"{item.details}\n\n{item.label}; {item.family}; {good}", markup=False)
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
