"""`evenreel theory`: what the two source papers claim, what is true, and what a real run shows."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenreel.theory.statement import Statement
    from evenreel.workflows.theory.measures import Finding

COLOURS = {"holds": "green", "holds in part": "yellow", "false as stated": "red"}


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("theory")(theory)


def theory(
    number: Annotated[
        str | None,
        typer.Argument(
            metavar="NUMBER", help="Statement to show at length, as C.7 or 4.7.", show_default=False
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Also measure the bounds on a run of a model, which takes half a minute."
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="Model of --measure, as of `evenreel edit`.")] = "mini",
    device: Annotated[
        str | None,
        typer.Option(
            help="Device of --measure: cpu, cuda, cuda:1 or mps.", show_default="a GPU if there is one"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the chapter of the manual.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
) -> None:
    """Show what the papers behind evenreel claim, what of it holds, and what is true instead.

    Every counterexample and every check runs as it is shown.
    """
    from evenreel.theory.chapter import chapter
    from evenreel.theory.statements import STATEMENTS, find

    if markdown and as_json:
        raise SettingsError("--markdown and --json exclude each other; choose one.")
    chosen = STATEMENTS if number is None else (find(number),)
    findings = _measured(model, device, quiet) if measure else []
    findings = [one for one in findings if any(one.statement in statement.ids for statement in chosen)]
    if as_json:
        from evenreel.workflows.theory.run import finding_rows

        rows = {"statements": [one.row() for one in chosen], "measured": finding_rows(findings)}
        typer.echo(json.dumps(rows, indent=2))
        return
    if markdown:
        typer.echo(chapter(chosen), nl=False)
    elif number is None:
        stdout().print(_overview(chosen))
        stdout().print("One at length, with its counterexample: evenreel theory NUMBER")
    else:
        _at_length(chosen[0])
    if measure:
        _show(findings, model)


def _measured(model: str, device: str | None, quiet: bool) -> "list[Finding]":
    from evenreel.backbones import load_backbone
    from evenreel.workflows.theory.run import measure_theory

    with shown_progress(quiet) as progress:
        # float32: in half precision small errors drown
        return measure_theory(load_backbone(model, device=device, dtype="float32"), progress=progress)


def _overview(statements: "Sequence[Statement]") -> Table:
    from evenreel.theory.chapter import compared

    table = _table("no.", "statement", "status", "breaks it", "what is true", "checked")
    for one in statements:
        broken = compared(one.counterexample()[0]) if one.counterexample else ""
        colour = COLOURS[one.status]
        table.add_row(
            " ".join(one.ids),
            escape(one.title),
            f"[{colour}]{one.status}[/]",
            broken,
            escape(one.gist),
            compared(one.check()[0]),
        )
    return table


def _at_length(statement: "Statement") -> None:
    from evenreel.theory.chapter import heading, paragraphs

    width = min(stdout().width, 100)
    stdout().print(textwrap.fill(heading(statement), width), style="bold", markup=False)
    stdout().print(statement.source, markup=False)
    for name, text in paragraphs(statement):
        stdout().print(f"\n{name}", style="bold", markup=False)
        for line in text.split("\n"):
            filled = textwrap.fill(line, width, initial_indent="  ", subsequent_indent="  ")
            stdout().print(filled, markup=False)


def _show(findings: "Sequence[Finding]", model: str) -> None:
    from evenreel.theory.chapter import compared, figure
    from evenreel.workflows.theory.run import worst_findings

    stdout().print(f"\nOn a real run of {model}: the place nearest to its bound", style="bold", markup=False)
    table = _table("no.", "what", "measured", "of bound", "places", "nearest at")
    worst = worst_findings(findings)
    for one, places in worst:
        share = one.measured.share
        table.add_row(
            one.statement,
            escape(one.measured.what),
            compared(one.measured) if one.measured.holds else f"[red]{compared(one.measured)}[/]",
            "" if share is None else figure(share),
            str(places),
            escape(one.where),
        )
    stdout().print(table)
    for note in dict.fromkeys(f"{one.statement}, {one.where}: {one.note}" for one, _ in worst if one.note):
        stdout().print(note, markup=False)
    if any(one.estimate for one in findings):
        stdout().print(
            "Bounds of C.8 and C.9 stand on Lipschitz constants of the noise predictor, estimated at some steps."
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
