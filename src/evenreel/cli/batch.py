"""`evenreel batch`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenreel.cli.console import complain, shown_progress, stdout
from evenreel.cli.edit import going_on
from evenreel.cli.options import Quiet

if TYPE_CHECKING:
    from evenreel.workflows.batch.worker import Outcome

BATCH_EPILOG = """[bold]Example of a table[/], edits.csv

clip,prompt,source_prompt,steps,out

a.mp4,a blue star rolling over snow,a red circle rolling over grass,20,{clip}-star.mp4
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("batch", epilog=BATCH_EPILOG)(batch)


def batch(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="Table of edits, .csv or .jsonl: a row for each, a column for each setting."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Names of results where the table has no column `out`: names of columns in braces are filled in, and "
            "{row}; {clip} is the clip's name without its suffix.",
            show_default="{clip}-{row}.mp4",
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="Place where rows are made: `inline`, one after the other; `processes`, each with a model of its own; "
            "`ray`, on the cluster of RAY_ADDRESS or on this machine (needs `pip install 'evenreel\\[ray]'`).",
            metavar="inline|processes|ray",
        ),
    ] = "inline",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Rows that are made at a time.", show_default="2; on Ray, one for each GPU"
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Make rows again whose results are there.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the table, and make nothing.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch models from the Hugging Face hub.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what became of each row as a line of JSON.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Edit many clips, as a table says.

    All of the table is checked before the first edit. Run it again, and only rows without a result are made: those
    that failed, and those that were stopped, which go on. A row that fails does not stop the others.
    """
    from evenreel.workflows.batch.run import read

    read_in = read(table, out=out, executor=executor, workers=workers, again=again, download=download)
    if check:
        if not quiet:
            rows = len(read_in.rows)
            stdout().print(f"{table}: {rows} {'row' if rows == 1 else 'rows'}, all good", markup=False)
        return
    outcomes: "list[Outcome]" = []
    with going_on(), shown_progress(quiet) as progress:
        for outcome in read_in.run(progress):
            outcomes.append(outcome)
            if as_json:
                stdout().print(json.dumps(asdict(outcome)), markup=False)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    found = sum(outcome.found for outcome in outcomes)
    for outcome in failed:
        complain(f"row {outcome.number}: {outcome.error}")
    if not quiet and not as_json:
        made = len(outcomes) - len(failed) - found
        stdout().print(f"{made} made, {found} there already, {len(failed)} failed", markup=False)
    if failed:
        raise typer.Exit(1)
