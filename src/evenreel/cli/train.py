"""`evenreel train mini`."""

from pathlib import Path
from typing import Annotated

import typer

from evenreel.cli.console import shown_progress
from evenreel.errors import SettingsError

PARTS = ("vae", "clip", "judge", "unet")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(help="Train models from nothing.", no_args_is_help=True)
    group.command("mini")(mini)
    group.callback()(_train)  # without one, a group of a single command would lose its name
    app.add_typer(group, name="train")


def _train() -> None:
    """Train models from nothing."""


def mini(
    out: Annotated[Path, typer.Option(help="Where states, logs and the finished model go.")] = Path(
        "runs/mini"
    ),
    parts: Annotated[
        str,
        typer.Option(help=f"Which parts, comma-separated: {', '.join(PARTS)}; each needs those before it."),
    ] = ",".join(PARTS),
    report: Annotated[
        bool, typer.Option("--report", help="Only measure the model in OUT and write its model card.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train the packaged `mini` model from nothing; started again, it goes on where it stopped."""
    chosen = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not chosen or any(part not in PARTS for part in chosen):
        raise SettingsError(f"--parts must name some of {', '.join(PARTS)}, comma-separated, got {parts!r}.")
    from evenreel.training import mini as trainer

    with shown_progress(quiet) as progress:
        trainer.train_mini(
            out, chosen, lambda part, done, total, figures: progress(f"train {part}", done, total)
        )
