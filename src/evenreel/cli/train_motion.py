"""`evenreel train motion`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evenreel.cli.console import stdout
from evenreel.cli.options import Quiet, takes_changes
from evenreel.cli.training import is_first, print_levels, training_shown
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
    quiet: Quiet = False,
) -> None:
    """Train motion modules (AnimateDiff) for any SD 1.x; stopped at any moment, the same command goes on.

    The model itself is not changed. OUT/motion is what comes out: a folder that `--motion` and diffusers take.

    Several processes: `accelerate launch --multi_gpu -m evenreel train motion DATA ...`.
    """
    settings = MotionTrainingSettings.told(**told)
    from evenreel.workflows.training.motion import train_motion
    from evenreel.workflows.training.motion_report import report_motion

    with training_shown(quiet) as progress:
        if report:
            path, figures = report_motion(data, out, settings, progress=progress)
        else:
            path, figures = train_motion(data, out, settings, progress=progress), []
    if quiet or not is_first():
        return
    if figures:
        rows = ((each.level, each.base, each.motion, each.shuffled) for each in figures)
        print_levels(("without", "with", "shuffled"), rows)
    stdout().print(f"{'Report' if report else 'Motion modules'}: {path}", markup=False)
