"""`evenreel train mini`: the packaged model; and the group that all other trainings are in too."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import Quiet, takes_changes, takes_settings
from evenreel.cli.train_adapter import adapter
from evenreel.cli.train_control import control
from evenreel.cli.train_motion import motion
from evenreel.cli.training import training_shown
from evenreel.errors import SettingsError
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.mini.recipe import MiniRecipe
from evenreel.training.mini.settings import TRAINED, MiniTrainingSettings

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


@takes_settings
@takes_changes(LoopSettings, {part: MiniRecipe().parts[part].loop for part in TRAINED}, together=True)
def mini(
    settings: MiniTrainingSettings,
    told: Mapping[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for states, logs and, in OUT/model, the finished model; with --report, the model to measure.",
            show_default="runs/mini; with --report the packaged model",
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
    quiet: Quiet = False,
) -> None:
    """Train the packaged `mini` model from nothing; started again, it goes on where it stopped.

    Each part has steps and rates of its own; an option holds for all parts that are trained. It takes hours on two
    cores and minutes on a GPU (docs/training.md). Seeds and settings are recorded in OUT/model/training.json.
    Several processes: `accelerate launch --multi_gpu -m evenreel train mini`.
    """
    if sheets is not None and not report:
        raise SettingsError("--sheets shows what a finished model draws; give it with --report.")
    from evenreel.backbones.mini import FOLDER as PACKAGED

    if report:
        _measured(out or PACKAGED, settings.device, first_seed, sheets, quiet)
        return
    from evenreel.training.mini.train import train_mini

    with training_shown(quiet) as progress:
        train_mini(
            out or DEFAULT_FOLDER,
            settings.parts,
            recipe=MiniRecipe().told(**told),
            device=settings.device,
            start=None
            if settings.start is None
            else PACKAGED
            if settings.start == "mini"
            else Path(settings.start),
            progress=lambda part, done, total, _: progress(part, done, total),
        )


def _measured(folder: Path, device: str, first_seed: int, sheets: Path | None, quiet: bool) -> None:
    """Measure a finished model, write its card, and print the figures."""
    from evenreel.workflows.world.mini_report import report

    folder = folder / "model" if (folder / "model").is_dir() else folder
    kept = first_seed == 0  # the card speaks of one set of scenes; others are for a second opinion
    with shown_progress(quiet) as progress:
        figures = report(
            folder, first=first_seed, device=device, write=kept, sheets=sheets, progress=progress
        )
    if quiet:
        return
    _print(figures)
    if kept:
        stdout().print(f"Model card: {folder / 'README.md'}", markup=False)


def _print(figures: "Sequence[Figure]") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "figure", "wanted", "measured"):
        table.add_column(column, justify="right" if column in ("wanted", "measured") else "left")
    for figure in figures:
        wanted = "" if figure.wanted is None else f">= {figure.wanted:g}"
        measured = f"{figure.value:.1f} {figure.unit}"
        table.add_row(figure.part, figure.name, wanted, measured if figure.reached else f"[red]{measured}[/]")
    stdout().print(table)
