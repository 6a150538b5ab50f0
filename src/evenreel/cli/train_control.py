"""`evenreel train control`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evenreel.cli.console import stdout
from evenreel.cli.options import Quiet, takes_changes
from evenreel.cli.training import is_first, print_levels, training_shown
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
    quiet: Quiet = False,
) -> None:
    """Train a ControlNet for any SD 1.x; stopped at any moment, the same command goes on.

    The model itself is not changed. OUT/control is what comes out: a folder that `--control` and diffusers take.

    Several processes: `accelerate launch --multi_gpu -m evenreel train control DATA ...`.
    """
    settings = ControlTrainingSettings.told(**told)
    from evenreel.workflows.training.control import report_control, train_control

    with training_shown(quiet) as progress:
        figures = report_control(data, out, settings, progress=progress) if report else []
        if not report:
            train_control(data, out, settings, progress=progress)
    if quiet or not is_first():
        return
    if report:
        rows = ((each.level, each.base, each.control, each.other) for each in figures)
        print_levels(("without", "with", "another's map"), rows)
    else:
        stdout().print(f"ControlNet: {out / 'control'}", markup=False)
