"""`evenreel train mini`: the packaged model; and the group that `train adapter` is in too."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.train_adapter import adapter
from evenreel.errors import SettingsError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenreel.workflows.world.model_card import Figure

DEFAULT_FOLDER = Path("runs/mini")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(help="Train models from nothing.", no_args_is_help=True)
    group.command("mini")(mini)
    group.command("adapter")(adapter)
    app.add_typer(group, name="train")


def mini(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where states, logs and, in OUT/model, the finished model go. With --report: the model to measure.",
            show_default="runs/mini; with --report the packaged model",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Only these parts, comma-separated; each needs those before it.",
            show_default="vae,text,vision,decoder,judge,unet",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Train nothing: measure a finished model and write its model card."),
    ] = False,
    first_seed: Annotated[
        int,
        typer.Option(
            min=0, help="With --report: measure on other held-out scenes, from this one on, and print only."
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="With --report: where to measure. (Training runs on the CPU.)")
    ] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train the packaged `mini` model from nothing; started again, it goes on where it stopped.

    It takes hours on two cores and less on more. Seeds and settings are recorded in OUT/model/training.json.
    """
    with shown_progress(quiet) as progress:
        if not report:
            from evenreel.training.mini import SETTINGS, train_mini

            chosen = _chosen(parts, tuple(SETTINGS))
            try:
                train_mini(
                    out or DEFAULT_FOLDER,
                    chosen,
                    lambda part, done, total, _: progress(f"train {part}", done, total),
                )
            except FloatingPointError as error:
                raise WeightsError(str(error)) from error
            return
        from evenreel.backbones import mini as packaged
        from evenreel.workflows.world.mini_report import report as measure

        folder = out or packaged.FOLDER
        folder = folder / "model" if (folder / "model").is_dir() else folder
        kept = first_seed == 0  # the card speaks of one set of scenes; others are for a second opinion
        figures = measure(folder, first=first_seed, device=device, write=kept, progress=progress)
    if quiet:
        return
    _print(figures)
    if kept:
        stdout().print(f"Model card: {folder / 'README.md'}", markup=False)


def _chosen(parts: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if parts is None:
        return known
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
