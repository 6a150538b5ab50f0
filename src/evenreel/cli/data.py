"""`evenreel data build` and `evenreel data check`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import Quiet, takes_settings
from evenreel.errors import DataError
from evenreel.training.data.settings import GROUPS, RUN, DataSettings, LookingSettings, SourceSettings

if TYPE_CHECKING:
    from evenreel.training.data.manifest import Manifest
    from evenreel.workflows.training.data_check import Report

MOST_LINES = 12
"""Clips left out, or problems, that are printed; all of them are in the manifest, or counted."""
BUILD_EPILOG = """[bold]Examples[/]

evenreel data build clips -o data

evenreel data build train_val_videodatainfo.json --clips TrainValVideo --split train -o msrvtt

evenreel data build clips --control depth --depth-model Depth-Anything-V2-Small-hf -o data

evenreel data build --world 500 --for mini --control canny --flow -o world
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(help="Build and check data to train on.", no_args_is_help=True)
    group.command("build", epilog=BUILD_EPILOG)(build)
    group.command("check")(check)
    app.add_typer(group, name="data")


@takes_settings
def build(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the shards; a build begun there goes on.")
    ],
    told: SourceSettings,
    settings: DataSettings,
    looking: LookingSettings,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of clips with captions.json, captions.csv or .txt files; or a file of captions, also "
            "MSR-VTT's JSON.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="MODEL",
            help="Model that the data are for, as of `evenreel edit --model`: frames get its size, and --size is left "
            "out.",
            show_default="none",
            rich_help_panel=GROUPS,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            help="Number of processes that share the work.",
            show_default="one a core; 1 with models that look at clips",
            rich_help_panel=RUN,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at the first clip that cannot be used, or whose caption is too long to be read whole.",
            rich_help_panel=RUN,
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Turn clips with captions, or rendered scenes, into shards to train on.

    Shards are tar files in WebDataset's layout: groups of frames, a JSON with captions, no pickles. Stopped at any
    moment and started again, it goes on. Clips that cannot be used are left out and listed in OUT/manifest.json.
    """
    told.check(source)
    from evenreel.training.data.sources import opened
    from evenreel.workflows.training.data_build import build as build_data
    from evenreel.workflows.training.data_build import sized_for

    if model is not None:
        settings = sized_for(model, settings)
    with shown_progress(quiet) as progress:
        manifest = build_data(
            opened(source, told),
            out,
            settings,
            looking=looking,
            workers=1 if workers is None and looking.named else _workers(workers),  # each loads its own
            strict=strict,
            progress=progress,
        )
    if not quiet:
        _print_built(manifest, out)


def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder made by `evenreel data build`.")],
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-j", help="Number of processes that share the work.", show_default="one a core"
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Count blank frames, still groups, repetitions and captions that are too long as failures too.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Verify shards: hashes, counts, names; every picture and every JSON is decoded.

    The exit status is 0 where all is well and 1 where something is damaged.
    """
    from evenreel.workflows.training.data_check import check as check_data

    with shown_progress(quiet) as progress:
        report = check_data(folder, workers=_workers(workers), progress=progress)
    if not quiet:
        _print_report(report)
    problems = report.found.problems
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0].rstrip('.')}{more}.")
    if strict and report.remarks:
        raise DataError(
            f"{folder} holds {report.found.blank} blank frames, {report.found.still} still groups, "
            f"{report.found.repeated} repetitions and {len(report.found.cut)} captions that are too long; "
            "leave --strict out to accept them."
        )


def _workers(given: int | None) -> int:
    return given if given is not None else min(64, os.cpu_count() or 1)


def _print_built(manifest: "Manifest", out: Path) -> None:
    skipped = manifest.skipped
    clips = sum(shard.clips for shard in manifest.shards) - len(skipped)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    stdout().print(
        f"{out}: {manifest.samples} groups of {manifest.settings.frames} frames from {clips} clips in "
        f"{len(manifest.shards)} shards, {size:.1f} MB",
        markup=False,
    )
    for name, reason in skipped[:MOST_LINES]:
        stdout().print(f"left out: {name}: {reason}", markup=False)
    if len(skipped) > MOST_LINES:
        stdout().print(
            f"left out: {len(skipped) - MOST_LINES} more, see {out / 'manifest.json'}", markup=False
        )


def _print_report(report: "Report") -> None:
    manifest, found = report.manifest, report.found
    width, height = manifest.settings.size
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    remarks = {
        "blank frames": found.blank,
        "still groups": found.still,
        "repeated groups": found.repeated,
        "captions too long to be read": len(found.cut),
    }
    rows = [
        ("shards", len(manifest.shards), f"of {manifest.shard_count}"),
        ("samples that are whole", found.samples, f"of {manifest.samples}"),
        ("frames decoded", found.frames, f"of {width} x {height}, {manifest.settings.image_format}"),
        ("captions and variations", found.captions, ""),
        *((name, count, "worth a look" if count else "") for name, count in remarks.items()),
        ("clips left out when built", len(manifest.skipped), "see manifest.json" if manifest.skipped else ""),
        ("problems", len(found.problems), ""),
    ]
    for name, count, words in rows:
        table.add_row(name, str(count), words)
    stdout().print(table)
    for cut in found.cut[:MOST_LINES]:
        stdout().print(f"too long: {cut.described()}", markup=False)
    for problem in found.problems[:MOST_LINES]:
        stdout().print(problem, markup=False)
    if len(found.problems) > MOST_LINES:
        stdout().print(f"and {len(found.problems) - MOST_LINES} more problems", markup=False)
