"""`evenreel generate`."""

from pathlib import Path
from typing import Annotated

import typer

from evenreel.cli.console import shown_progress
from evenreel.cli.edit import ALGORITHM, FRAMES, MACHINE, PROMPTS, parse_options, parse_size, print_result
from evenreel.cli.options import ControlClip, ControlKind, ControlName, ControlScale, option
from evenreel.settings import DTYPES, GenerateSettings

DEFAULTS = GenerateSettings(prompt="defaults")

EPILOG = """[bold]Examples[/]

evenreel generate --prompt "a red circle rolling over grass" -o circle.mp4

evenreel generate --model stable-diffusion-v1-5/stable-diffusion-v1-5 --download --frames 16
--prompt "a horse galloping on a street" --host-option motion_x=20 -o horse.mp4

evenreel generate --model FOLDER --control CONTROLNET --control-clip dance.mp4 --prompt "a robot dancing" -o robot.mp4
"""


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("generate", epilog=EPILOG)(generate)


def generate(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the clip shows.")],
    output: Annotated[
        Path,
        typer.Option("--out", "-o", help=".mp4, .mov, .mkv, .webm, .gif, or no suffix for a folder of PNGs."),
    ],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace an earlier result, once the new one is whole.")
    ] = False,
    negative_prompt: Annotated[
        str, option(PROMPTS, "What the clip must not show.")
    ] = DEFAULTS.negative_prompt,
    guidance_scale: Annotated[
        float | None,
        option(PROMPTS, "How strongly the prompt pulls; 1 is none.", show_default="as the model wants it"),
    ] = DEFAULTS.guidance_scale,
    model: Annotated[
        str, option(ALGORITHM, "`mini` (packaged), a diffusers folder, or an SD 1.x/2.x name on the hub.")
    ] = DEFAULTS.model,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a model from the hub.", rich_help_panel=ALGORITHM)
    ] = False,
    host: Annotated[
        str,
        option(ALGORITHM, "What keeps frames consistent; see `evenreel hosts`. tokenflow needs a source."),
    ] = DEFAULTS.host,
    host_option: Annotated[
        list[str] | None,
        option(ALGORITHM, "A setting of the host; see `evenreel hosts NAME`.", metavar="KEY=VALUE"),
    ] = None,
    steps: Annotated[int, option(ALGORITHM, "Denoising steps: more is slower and finer.")] = DEFAULTS.steps,
    seed: Annotated[
        int, option(ALGORITHM, "Where randomness starts; another one makes another clip.")
    ] = DEFAULTS.seed,
    frames: Annotated[int, option(FRAMES, "Frames to make.")] = DEFAULTS.frames,
    fps: Annotated[float, option(FRAMES, "Frames a second.")] = DEFAULTS.fps,
    size: Annotated[
        str | None,
        option(
            FRAMES,
            "Size of the clip. One number is the shorter side, of a square or of the shape of --control-clip.",
            metavar="SIDE|WxH",
            show_default="the model's own",
        ),
    ] = None,
    control: ControlName = DEFAULTS.control,
    control_kind: ControlKind = DEFAULTS.control_kind,
    control_scale: ControlScale = DEFAULTS.control_scale,
    control_clip: ControlClip = DEFAULTS.control_clip,
    device: Annotated[str, option(MACHINE, "auto, cpu, cuda, cuda:1 or mps.")] = DEFAULTS.device,
    dtype: Annotated[
        str, option(MACHINE, f"{', '.join(DTYPES)}; auto is float16 on a GPU, else float32.")
    ] = DEFAULTS.dtype,
    batch: Annotated[
        int, option(MACHINE, "Frames in the model at once: less needs less memory.")
    ] = DEFAULTS.batch,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Make a clip from text alone, or from text and what a ControlNet is shown.

    Beside it, a .json file records all that is needed to make it again: see `evenreel repeat`.
    """
    settings = GenerateSettings(
        prompt=prompt,
        negative_prompt=negative_prompt,
        model=model,
        host=host,
        host_options=parse_options("--host-option", host_option or []),
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        frames=frames,
        fps=fps,
        size=parse_size(size),
        control=control,
        control_kind=control_kind,
        control_scale=control_scale,
        control_clip=control_clip,
        batch=batch,
        device=device,
        dtype=dtype,
    )
    from evenreel.workflows.editing.generate import generate_file

    with shown_progress(quiet) as progress:
        result = generate_file(output, settings, overwrite=force, progress=progress, download=download)
    if not quiet:
        print_result(result)
