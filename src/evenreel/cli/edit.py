"""`evenreel edit` and `evenreel repeat`."""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from evenreel.cli.console import StoppedError, complain, print_json, shown_progress, stdout
from evenreel.cli.options import Quiet, option, takes_settings
from evenreel.cli.terminal_pictures import preview_of, strip_of, way
from evenreel.errors import SettingsError, argument
from evenreel.settings import EditSettings
from evenreel.settings.option_groups import ALGORITHM, MACHINE, REGION

if TYPE_CHECKING:  # torch takes a second to import, and --help needs none of it
    from evenreel.workflows.editing.records.record import FileResult

EDIT_EPILOG = """[bold]Examples[/]

evenreel edit ball.mp4 --prompt "a blue star rolling over snow" -o star.mp4

evenreel edit ski.mov --model stable-diffusion-v1-5/stable-diffusion-v1-5 --download --size 512 --frames 0:32
--source-prompt "a man skiing" --prompt "an astronaut skiing on the moon" --negative-prompt "blurry" -o moon.mp4

evenreel edit in.mp4 --prompt "..." --host frame --steps 20 --seed 7

evenreel edit in.mp4 --prompt "..." --model FOLDER --control CONTROLNET --control-kind depth --depth-model FOLDER

evenreel edit --prompt "..." -- -name-with-a-dash.mp4
"""
MASK_EPILOG = """[bold]Examples[/]

evenreel mask ball.mp4 --source-prompt "a red circle rolling over grass" --prompt "a blue star rolling over grass"

evenreel edit ball.mp4 --source-prompt "..." --prompt "..." --mask ball-mask -o star.mp4
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("edit", epilog=EDIT_EPILOG)(edit)
    app.command("mask", epilog=MASK_EPILOG)(mask)
    app.command("repeat")(repeat)


@takes_settings
def edit(
    clip: Annotated[
        Path,
        typer.Argument(metavar="CLIP", help="Video (mp4, mov, mkv, webm, gif, ...) or folder of images."),
    ],
    settings: EditSettings,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where the result goes: .mp4, .mov, .mkv, .webm, .gif, or no suffix for a folder of PNGs. An earlier "
            "one is replaced once the new one is whole.",
            show_default="CLIP-edited.mp4",
        ),
    ] = None,
    show_mask: Annotated[
        bool,
        option(
            REGION,
            "Save a film strip of what is edited beside the result, as NAME-mask-strip.png.",
            "--show-mask",
        ),
    ] = False,
    download: Annotated[
        bool, option(ALGORITHM, "Fetch the model from the Hugging Face hub.", "--download")
    ] = False,
    job: Annotated[
        str,
        option(
            MACHINE,
            "Folder that keeps what is done, so that the same command goes on where one was stopped: `auto`, one of "
            "its own in the cache, `off`, or a folder of your choice. See `evenreel jobs`.",
            "--job",
            metavar="auto|off|FOLDER",
        ),
    ] = "auto",
    profile: Annotated[
        bool,
        option(
            MACHINE, "Tell where the seconds of this edit went, and what the networks computed.", "--profile"
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print progress and the result as lines of JSON, for programs.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Edit CLIP with text.

    The result keeps the frame rate (also a variable one), duration, size, orientation and sound of CLIP.

    Beside it, a .json file records all that is needed to repeat the edit: see `evenreel repeat`.
    """
    if output is None and clip.name in ("", ".."):
        raise SettingsError(f"{str(clip)!r} gives the result no name; choose one with {argument('output')}.")
    from evenreel.workflows.editing.edit import edit_file

    target = output if output is not None else clip.with_name(f"{clip.stem}-edited.mp4")
    latest = preview_of(target, job)
    with going_on() if job != "off" else nullcontext(), shown_progress(quiet, as_json, latest) as progress:
        result = edit_file(
            clip,
            target,
            settings,
            progress=progress,
            download=download,
            show_mask=show_mask,
            profile=profile,
            job=job,
        )
    told = {"profile": result.record["profile"]} if profile else {}
    if as_json:
        print_json({"event": "result", "path": str(result.path), "record": str(result.record_path), **told})
    elif not quiet:
        print_result(result)
        if shows := way(sys.stdout.isatty()):
            sys.stdout.write(strip_of(result.path, result.record["frames"]["written"], shows))
        if profile:
            print_profile(result.record["profile"])


@takes_settings
def mask(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Video or folder of images.")],
    settings: EditSettings,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where the mask goes: no suffix for a folder of PNGs, which is exact; or .mp4, .mov, .mkv, .webm, "
            ".gif.",
            show_default="CLIP-mask",
        ),
    ] = None,
    download: Annotated[
        bool, option(ALGORITHM, "Fetch the model from the Hugging Face hub.", "--download")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write what `evenreel edit` with the same options would change of CLIP as a mask, white on black.

    `evenreel edit --mask` takes it, as it is or painted over.
    """
    if output is None and clip.name in ("", ".."):
        raise SettingsError(f"{str(clip)!r} gives the mask no name; choose one with {argument('output')}.")
    from evenreel.workflows.editing.mask_file import mask_file

    target = output if output is not None else clip.with_name(f"{clip.stem}-mask")
    with shown_progress(quiet) as progress:
        shares = mask_file(clip, target, settings, progress=progress, download=download)
    if not quiet:
        stdout().print(f"{target}: {len(shares)} frames; {said_of(shares)} is black", markup=False)


@contextmanager
def going_on() -> Generator[None]:
    """Say of a job that is interrupted inside how it goes on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        said = "interrupted; the same command, or `evenreel jobs resume`, goes on from here."
        raise StoppedError(said) from stop


def repeat(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="The .json file that lies beside a result.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where the result goes, as of `evenreel edit`; an earlier one is replaced once the new one is whole.",
            show_default="NAME-repeated.mp4",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run an edit again from its record, or make a clip from text again.

    Source clip and model must be those of the record (their hashes are compared). On the same machine and versions
    the frames come out the same, bit for bit.
    """
    from evenreel.workflows.editing.repeat import repeat_edit

    with shown_progress(quiet) as progress:
        result = repeat_edit(record, output, progress=progress)
    if not quiet:
        print_result(result)


def print_result(result: "FileResult") -> None:
    """Print one line that says where a result is, and what it took; before it what should be known of how it was
    made."""
    if kept := result.record.get("kept"):
        unit = "pixel" if kept["feather"] == 1 else "pixels"
        edge = "" if min(kept["shares"]) == 1 else f", but for an edge of {kept['feather']} {unit}"
        complain(f"note: {said_of(kept['shares'])} is the source's own{edge}.")
    elif "compare" in result.record["seconds"]:
        complain("note: the prompts differ everywhere in the clip, so nothing of the source is kept.")
    if result.record.get("another_shape") and None in result.record["host"]["settings"].values():
        complain(
            "note: the prompt names another thing and changes nothing else, so less is taken from the source; "
            "--host-option pnp_attn=0.5 --host-option p2p_cross=0.5 take as much as other edits do."
        )
    seconds = sum(result.record["seconds"].values())
    count = result.record["frames"]["written"]
    stdout().print(
        f"{result.path}: {count} frame{'' if count == 1 else 's'} in {seconds:.1f} s; "
        f"settings and figures in {result.record_path}",
        markup=False,
    )


def print_profile(profile: Mapping[str, Any]) -> None:
    """Show where the time of an edit went, a line for each stage."""
    table = Table("", box=None, header_style="bold", pad_edge=False)
    for title in ("seconds", "of CPU", "calls", "rows", "GFLOP", "GFLOP/s of CPU"):
        table.add_column(title, justify="right")
    for name, line in [*profile["stages"].items(), ("total", profile["total"])]:
        computed = [f"{line['calls']}", f"{line['rows']}", f"{line['gflop']:.0f}"] if line["calls"] else []
        if computed and name != "total" and line["cpu_seconds"]:
            computed.append(f"{line['gflop'] / line['cpu_seconds']:.0f}")
        table.add_row(name, f"{line['seconds']:.2f}", f"{line['cpu_seconds']:.2f}", *computed)
    stdout().print(table)


def said_of(shares: Sequence[float]) -> str:
    """Say how much of frames stays, from the share of each."""
    least, most = (f"{100 * end(shares):.0f}%" for end in (min, max))
    return f"{least} of each frame" if least == most else f"{least} to {most} of a frame"
