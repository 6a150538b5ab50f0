"""`evenreel train control`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import takes_changes
from evenreel.errors import WeightsError
from evenreel.training.control.settings import ControlTrainingSettings


@takes_changes(ControlTrainingSettings, {"all": ControlTrainingSettings()})
def control(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder of shards made by `evenreel data build --control KIND`."),
    ],
    told: Mapping[str, Any],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of states, logs and the ControlNet; a training begun there goes on."
        ),
    ] = Path("runs/control"),
    report: Annotated[
        bool,
        typer.Option("--report", help="Train nothing: measure the ControlNet in OUT on DATA."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a ControlNet for any SD 1.x; stopped at any moment, the same command goes on.

    The model itself is not changed. OUT/control is what comes out: a folder that `--control` and diffusers take.

    Several processes: `accelerate launch --multi_gpu -m evenreel train control DATA ...`.
    """
    settings = ControlTrainingSettings.told(**told)
    from evenreel.workflows.training.control import report_control, train_control

    first = os.environ.get("LOCAL_RANK", "0") == "0"
    with shown_progress(quiet or not first) as progress:
        if report:
            figures = report_control(data, out, settings, progress=progress)
        else:
            figures = []
            try:
                train_control(data, out, settings, progress=progress)
            except FloatingPointError as error:
                raise WeightsError(str(error)) from error
    if quiet or not first:
        return
    if figures:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("noise level", "without", "with", "another's map"):
            table.add_column(column, justify="right")
        for each in figures:
            table.add_row(f"{each.level:g}", f"{each.base:.4f}", f"{each.control:.4f}", f"{each.other:.4f}")
        stdout().print(table)
    else:
        stdout().print(f"ControlNet: {out / 'control'}", markup=False)
