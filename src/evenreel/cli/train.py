"""`evenreel train mini`: the packaged model; and the group that all other trainings are in too."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.train_adapter import adapter
from evenreel.cli.train_control import control
from evenreel.cli.train_motion import motion
from evenreel.errors import SettingsError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenreel.workflows.world.model_card import Figure

DEFAULT_FOLDER = Path("runs/mini")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(help="Train a model or an adapter.", no_args_is_help=True)
    group.command("mini")(mini)
    group.command("adapter")(adapter)
    group.command("motion")(motion)
    group.command("control")(control)
    app.add_typer(group, name="train")


def mini(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for states, logs and, in OUT/model, the finished model; with --report, the model to measure.",
            show_default="runs/mini; with --report the packaged model",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Parts to train, comma-separated; each needs those before it.",
            show_default="vae,text,vision,decoder,judge,unet,motion,control",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Train nothing: measure a finished model and write its model card."),
    ] = False,
    first_seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the first held-out scene of --report; from another one than 0 the figures are only printed.",
        ),
    ] = 0,
    sheets: Annotated[
        Path | None,
        typer.Option(
            help="Folder for contact sheets of --report: 64 drawings of each shape, worst outlines first."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Finished model to go on from, a folder or `mini`; its weights are taken, the optimizer begins anew.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps of each part, in place of its own number.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of training for each part, which ends within them.")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(min=0, help="Steps over which the learning rate of each part rises from zero."),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="Number type of the matrix products: auto (the faster one, measured), float32, bfloat16 or float16."
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="Device to train on, or with --report to measure on: auto, cpu, cuda, cuda:1 or mps."
        ),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train the packaged `mini` model from nothing; started again, it goes on where it stopped.

    It takes hours on two cores and minutes on a GPU (docs/training.md). Seeds and settings are recorded in
    OUT/model/training.json. Several processes: `accelerate launch --multi_gpu -m evenreel train mini`.
    """
    if sheets is not None and not report:
        raise SettingsError("--sheets shows what a finished model draws; give it with --report.")
    with shown_progress(quiet) as progress:
        if not report:
            from evenreel.backbones import mini as own
            from evenreel.training.mini.recipe import MiniRecipe
            from evenreel.training.mini.train import train_mini

            recipe = MiniRecipe().with_loop(steps=steps, minutes=minutes, warmup=warmup, dtype=dtype)
            chosen = None if parts is None else _chosen(parts, tuple(recipe.parts))
            folder = None if start is None else own.FOLDER if start == "mini" else Path(start)
            try:
                train_mini(
                    out or DEFAULT_FOLDER,
                    chosen,
                    recipe=recipe,
                    device=device,
                    start=folder,
                    progress=lambda part, done, total, _: progress(part, done, total),
                )
            except FloatingPointError as error:
                raise WeightsError(str(error)) from error
            return
        from evenreel.backbones import mini as packaged
        from evenreel.workflows.world.mini_report import report as measure

        folder = out or packaged.FOLDER
        folder = folder / "model" if (folder / "model").is_dir() else folder
        kept = first_seed == 0  # the card speaks of one set of scenes; others are for a second opinion
        figures = measure(
            folder, first=first_seed, device=device, write=kept, sheets=sheets, progress=progress
        )
    if quiet:
        return
    _print(figures)
    if kept:
        stdout().print(f"Model card: {folder / 'README.md'}", markup=False)


def _chosen(parts: str, known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not chosen or any(part not in known for part in chosen):
        raise SettingsError(f"--parts must name some of {', '.join(known)}, comma-separated, got {parts!r}.")
    return chosen


def _print(figures: "Sequence[Figure]") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "figure", "wanted", "measured"):
        table.add_column(column, justify="right" if column in ("wanted", "measured") else "left")
    for figure in figures:
        wanted = "" if figure.wanted is None else f">= {figure.wanted:g}"
        measured = f"{figure.value:.1f} {figure.unit}"
        table.add_row(figure.part, figure.name, wanted, measured if figure.reached else f"[red]{measured}[/]")
    stdout().print(table)
