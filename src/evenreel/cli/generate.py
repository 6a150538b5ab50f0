"""`evenreel generate`."""

from pathlib import Path
from typing import Annotated

import typer

from evenreel.cli.console import shown_progress
from evenreel.cli.edit import print_result
from evenreel.cli.options import Quiet, option, takes_settings
from evenreel.settings import GenerateSettings
from evenreel.settings.option_groups import ALGORITHM

EPILOG = """[bold]Examples[/]

evenreel generate --prompt "a red circle rolling over grass" -o circle.mp4

evenreel generate --model stable-diffusion-v1-5/stable-diffusion-v1-5 --download --frames 16
--prompt "a horse galloping on a street" --host-option motion_x=20 -o horse.mp4

evenreel generate --model FOLDER --control CONTROLNET --control-clip dance.mp4 --prompt "a robot dancing" -o robot.mp4
"""


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("generate", epilog=EPILOG)(generate)


@takes_settings
def generate(
    settings: GenerateSettings,
    output: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Where the result goes: .mp4, .mov, .mkv, .webm, .gif, or no suffix for a folder of PNGs. An earlier "
            "one is replaced once the new one is whole.",
        ),
    ],
    force: Annotated[
        bool,
        typer.Option("--force", "-f", hidden=True, help="Accepted as before: earlier results are replaced."),
    ] = False,
    download: Annotated[
        bool, option(ALGORITHM, "Fetch the model from the Hugging Face hub.", "--download")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a clip from text alone, or from text and what a ControlNet is shown.

    Beside it, a .json file records all that is needed to make it again: see `evenreel repeat`.
    """
    del force
    from evenreel.workflows.editing.generate import generate_file

    with shown_progress(quiet) as progress:
        result = generate_file(output, settings, progress=progress, download=download)
    if not quiet:
        print_result(result)
