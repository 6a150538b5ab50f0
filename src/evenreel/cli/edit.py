"""`evenreel edit` and `evenreel repeat`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import (
    AdapterFile,
    AdapterFused,
    AdapterScale,
    AdapterWindow,
    ControlClip,
    ControlKind,
    ControlName,
    ControlScale,
    option,
)
from evenreel.errors import SettingsError
from evenreel.settings import DTYPES, INVERSIONS, EditSettings, OptionValue, parse_frames

if TYPE_CHECKING:  # torch takes a second to import, and --help needs none of it
    from evenreel.workflows.editing.record import FileResult

DEFAULTS = EditSettings(prompt="defaults")

PROMPTS, ALGORITHM, FRAMES, MACHINE = "Prompts", "Algorithm", "Frames", "Machine"
"""Groups of options on the help page."""

EDIT_EPILOG = """[bold]Examples[/]

evenreel edit ball.mp4 --prompt "a blue star rolling over snow" -o star.mp4

evenreel edit ski.mov --model stable-diffusion-v1-5/stable-diffusion-v1-5 --download --size 512 --frames 0:32
--source-prompt "a man skiing" --prompt "an astronaut skiing on the moon" --negative-prompt "blurry" -o moon.mp4

evenreel edit in.mp4 --prompt "..." --host frame --steps 20 --seed 7

evenreel edit --prompt "..." -- -name-with-a-dash.mp4
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("edit", epilog=EDIT_EPILOG)(edit)
    app.command("repeat")(repeat)


def edit(
    clip: Annotated[
        Path,
        typer.Argument(metavar="CLIP", help="A video (mp4, mov, mkv, webm, gif, ...) or a folder of images."),
    ],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the edited clip shows.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help=".mp4, .mov, .mkv, .webm, .gif, or no suffix for a folder of PNGs; replaced only on success.",
            show_default="CLIP-edited.mp4",
        ),
    ] = None,
    source_prompt: Annotated[
        str, option(PROMPTS, "What CLIP shows; makes the inversion more faithful.")
    ] = DEFAULTS.source_prompt,
    negative_prompt: Annotated[
        str, option(PROMPTS, "What the edited clip must not show.")
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
        str, option(ALGORITHM, "What keeps frames consistent; see `evenreel hosts`.")
    ] = DEFAULTS.host,
    host_option: Annotated[
        list[str] | None,
        option(ALGORITHM, "A setting of the host; see `evenreel hosts NAME`.", metavar="KEY=VALUE"),
    ] = None,
    steps: Annotated[int, option(ALGORITHM, "Denoising steps: more is slower and finer.")] = DEFAULTS.steps,
    inversion: Annotated[
        str,
        option(ALGORITHM, f"How CLIP becomes noise: {', '.join(INVERSIONS)}; see `evenreel inversions`."),
    ] = DEFAULTS.inversion,
    inversion_option: Annotated[
        list[str] | None,
        option(ALGORITHM, "A setting of the inversion; see `evenreel inversions NAME`.", metavar="KEY=VALUE"),
    ] = None,
    inversion_steps: Annotated[
        int | None,
        option(
            ALGORITHM,
            "Noising steps of bilateral, ddim and null-text, a multiple of --steps.",
            show_default="as --steps",
        ),
    ] = None,
    seed: Annotated[
        int, option(ALGORITHM, "Where randomness starts: the host's (`frame` has none) and that of `ddpm`.")
    ] = DEFAULTS.seed,
    frames: Annotated[
        str,
        option(FRAMES, "Frames to edit, from 0; END is the one after the last.", metavar="START:END"),
    ] = ":",
    size: Annotated[
        str | None,
        option(
            FRAMES,
            "Size at which the model works; the result has that of CLIP.",
            metavar="SIDE|WxH",
            show_default="the model's own",
        ),
    ] = None,
    allow_truncated: Annotated[
        bool,
        typer.Option(
            "--allow-truncated", help="Edit what there is of a clip cut short.", rich_help_panel=FRAMES
        ),
    ] = False,
    control: ControlName = DEFAULTS.control,
    control_kind: ControlKind = DEFAULTS.control_kind,
    control_scale: ControlScale = DEFAULTS.control_scale,
    control_clip: ControlClip = DEFAULTS.control_clip,
    adapter: AdapterFile = DEFAULTS.adapter,
    adapter_scale: AdapterScale = DEFAULTS.adapter_scale,
    adapter_window: AdapterWindow = DEFAULTS.adapter_window,
    adapter_fused: AdapterFused = DEFAULTS.adapter_fused,
    device: Annotated[str, option(MACHINE, "auto, cpu, cuda, cuda:1 or mps.")] = DEFAULTS.device,
    dtype: Annotated[
        str, option(MACHINE, f"{', '.join(DTYPES)}; auto is float16 on a GPU, else float32.")
    ] = DEFAULTS.dtype,
    batch: Annotated[
        int, option(MACHINE, "Frames in the model at once: less needs less memory.")
    ] = DEFAULTS.batch,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Edit CLIP with text.

    The result keeps the frame rate (also a variable one), duration, size, orientation and sound of CLIP.

    Beside it, a .json file records all that is needed to repeat the edit: see `evenreel repeat`.
    """
    settings = EditSettings(
        prompt=prompt,
        source_prompt=source_prompt,
        negative_prompt=negative_prompt,
        model=model,
        host=host,
        host_options=parse_options("--host-option", host_option or []),
        steps=steps,
        inversion=inversion,
        inversion_options=parse_options("--inversion-option", inversion_option or []),
        inversion_steps=inversion_steps,
        guidance_scale=guidance_scale,
        seed=seed,
        size=parse_size(size),
        frames=parse_frames(frames),
        control=control,
        control_kind=control_kind,
        control_scale=control_scale,
        control_clip=control_clip,
        adapter=adapter,
        adapter_scale=adapter_scale,
        adapter_window=adapter_window,
        adapter_fused=adapter_fused,
        batch=batch,
        device=device,
        dtype=dtype,
        allow_truncated=allow_truncated,
    )
    if output is None and clip.name in ("", ".."):
        raise SettingsError(f"{str(clip)!r} gives the result no name; choose one with --out.")
    from evenreel.workflows.editing.edit import edit_file

    target = output if output is not None else clip.with_name(f"{clip.stem}-edited.mp4")
    with shown_progress(quiet) as progress:
        result = edit_file(clip, target, settings, progress=progress, download=download)
    if not quiet:
        print_result(result)


def repeat(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="The .json file that lies beside an edited clip.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the result goes.", show_default="NAME-repeated.mp4"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
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
    """One line that says where a result is, and what it took."""
    seconds = sum(result.record["seconds"].values())
    count = result.record["frames"]["written"]
    stdout().print(
        f"{result.path}: {count} frame{'' if count == 1 else 's'} in {seconds:.1f} s; "
        f"settings and figures in {result.record_path}",
        markup=False,
    )


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`SIDE` or `WIDTHxHEIGHT`."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{1,6})(?:\s*[x*X]\s*(\d{1,6}))?\s*", text, flags=re.ASCII)
    if match is None:
        raise SettingsError(f"--size must be SIDE or WIDTHxHEIGHT, for example 512 or 768x512, got {text!r}.")
    first, second = match.groups()
    return int(first) if second is None else (int(first), int(second))


def parse_options(flag: str, pairs: list[str]) -> dict[str, OptionValue]:
    """`key=value` pairs; a value is read as true/false, none, a number, or else text."""
    options: dict[str, OptionValue] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{flag} must be KEY=VALUE, got {pair!r}.")
        options[key.strip()] = _plain_value(value.strip())
    return options


def _plain_value(text: str) -> OptionValue:
    named: dict[str, OptionValue] = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
