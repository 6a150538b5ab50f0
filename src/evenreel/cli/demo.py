"""`evenreel demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import Quiet

if TYPE_CHECKING:
    from evenreel.workflows.world.demo import DemoResult


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the clips and the film strip.")] = Path("demo"),
    host: Annotated[
        str, typer.Option(help="Algorithm that keeps frames consistent; `evenreel hosts` lists them.")
    ] = "auto",
    frames: Annotated[int, typer.Option(min=1, max=512, help="Number of frames of the clip.")] = 16,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Denoising steps; more of them are slower and finer.",
            show_default="as of `evenreel edit`",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Number that all randomness follows from.")] = 0,
    model: Annotated[str, typer.Option(help="Model to edit with, as of `evenreel edit`.")] = "mini",
    quiet: Quiet = False,
) -> None:
    """See an edit happen: render a clip with sound, edit it with a prompt, and measure it against the exact answer."""
    from evenreel.workflows.world.demo import run_demo

    with shown_progress(quiet) as progress:
        result = run_demo(
            out, host=host, frames=frames, steps=steps, seed=seed, model=model, progress=progress
        )
    if not quiet:
        _print(result)


def _print(result: "DemoResult") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("what it means", overflow="fold")
    for figure in result.figures:
        table.add_row(figure.name, figure.value, figure.meaning)
    console = stdout()
    console.print(f'\n"{result.source_prompt}" -> "{result.prompt}"\n', markup=False)
    console.print(table)
    console.print()
    for name, path in (("source", result.source), ("edit", result.edit), ("film strip", result.strip)):
        console.print(f"{name:<11}{path}", markup=False)
