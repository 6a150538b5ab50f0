"""`evenreel train motion`."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError, WeightsError

MODULES, TRAINING = "Motion modules", "Training"


def motion(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder of shards made by `evenreel data build --frames 16 --gap 1`."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of states, logs and the modules; a training begun there goes on."
        ),
    ] = Path("runs/motion"),
    model: Annotated[
        str, typer.Option(help="Model that the modules are made for, as of `evenreel edit`.")
    ] = "mini",
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Modules to go on from: `mini`, a diffusers MotionAdapter folder, or a name on the hub.",
            show_default="new ones",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Train nothing: measure the modules in OUT on DATA, and make samples of its captions.",
        ),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimizer steps in all.", rich_help_panel=TRAINING, show_default="5000"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes of training in all, over all runs in the folder; the training ends before --steps then.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate after the warm-up.", rich_help_panel=TRAINING)
    ] = 1e-4,
    warmup: Annotated[
        int,
        typer.Option(
            min=0, help="Steps over which the learning rate rises from zero.", rich_help_panel=TRAINING
        ),
    ] = 200,
    accumulation: Annotated[
        int,
        typer.Option(help="Micro-batches of a step, over all processes together.", rich_help_panel=TRAINING),
    ] = 1,
    clips: Annotated[int, typer.Option(help="Clips in a micro-batch.", rich_help_panel=TRAINING)] = 2,
    strides: Annotated[
        str,
        typer.Option(
            help="Frame rates to learn, as every how many frames of a group are seen, comma-separated.",
            rich_help_panel=TRAINING,
        ),
    ] = "1,2",
    max_frames: Annotated[
        int,
        typer.Option(help="Most frames that new modules can see together.", rich_help_panel=MODULES),
    ] = 32,
    middle: Annotated[
        bool,
        typer.Option("--middle", help="Add a module in the middle of the UNet.", rich_help_panel=MODULES),
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="Number type: auto (the faster one, measured), float32, bfloat16, or float16 on a GPU.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(min=0, help="Number that all randomness follows from.", rich_help_panel=TRAINING)
    ] = 0,
    device: Annotated[
        str,
        typer.Option(help="Device to train on: auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=TRAINING),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train motion modules (AnimateDiff) for any SD 1.x; stopped at any moment, the same command goes on.

    The model itself is not changed. OUT/motion is what comes out: a folder that `--motion` and diffusers take.

    Several processes: `accelerate launch --multi_gpu -m evenreel train motion DATA ...`.
    """
    from evenreel.training.motion.settings import MotionTrainingSettings
    from evenreel.workflows.training.motion import train_motion
    from evenreel.workflows.training.motion_report import report_motion

    loop = MotionTrainingSettings().loop
    settings = MotionTrainingSettings(
        loop=dataclasses.replace(
            loop,
            steps=steps if steps is not None or minutes is not None else loop.steps,
            minutes=minutes,
            learning_rate=learning_rate,
            warmup=min(warmup, steps) if steps is not None else warmup,
            accumulation=accumulation,
            dtype=dtype,
        ),
        model=model,
        start=start,
        clips=clips,
        strides=_strides(strides),
        max_frames=max_frames,
        middle=middle,
        seed=seed,
        device=device,
    )
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


def _strides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"--strides must be whole numbers, comma-separated, for example 1,2, got {text[:40]!r}."
        ) from error
