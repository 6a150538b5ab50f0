"""`evenreel train motion`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import takes_changes
from evenreel.errors import WeightsError
from evenreel.training.motion.settings import MotionTrainingSettings


@takes_changes(MotionTrainingSettings, {"all": MotionTrainingSettings()})
def motion(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder of shards made by `evenreel data build --frames 16 --gap 1`."
        ),
    ],
    told: Mapping[str, Any],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of states, logs and the modules; a training begun there goes on."
        ),
    ] = Path("runs/motion"),
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Train nothing: measure the modules in OUT on DATA, and make samples of its captions.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train motion modules (AnimateDiff) for any SD 1.x; stopped at any moment, the same command goes on.

    The model itself is not changed. OUT/motion is what comes out: a folder that `--motion` and diffusers take.

    Several processes: `accelerate launch --multi_gpu -m evenreel train motion DATA ...`.
    """
    settings = MotionTrainingSettings.told(**told)
    from evenreel.workflows.training.motion import train_motion
    from evenreel.workflows.training.motion_report import report_motion

    first = os.environ.get("LOCAL_RANK", "0") == "0"
    with shown_progress(quiet or not first) as progress:
        if report:
            path, figures = report_motion(data, out, settings, progress=progress)
        else:
            try:
                path, figures = train_motion(data, out, settings, progress=progress), []
            except FloatingPointError as error:
                raise WeightsError(str(error)) from error
    if quiet or not first:
        return
    if figures:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("noise level", "without", "with", "shuffled"):
            table.add_column(column, justify="right")
        for each in figures:
            table.add_row(f"{each.level:g}", f"{each.base:.4f}", f"{each.motion:.4f}", f"{each.shuffled:.4f}")
        stdout().print(table)
    stdout().print(f"{'Report' if report else 'Motion modules'}: {path}", markup=False)
