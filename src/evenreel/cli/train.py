"""`evenreel train`: the packaged model, and adapters."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenreel.workflows.mini_report import Figure

DEFAULT_FOLDER = Path("runs/mini")
ADAPTER, LOSS, TRAINING, LOOK = "Adapter", "Loss", "Training", "Validation edits"


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(help="Train models from nothing.", no_args_is_help=True)
    group.command("mini")(mini)
    group.command("adapter")(adapter)
    app.add_typer(group, name="train")


def mini(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where states, logs and, in OUT/model, the finished model go. With --report: the model to measure.",
            show_default="runs/mini; with --report the packaged model",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Only these parts, comma-separated; each needs those before it.",
            show_default="vae,text,vision,decoder,judge,unet",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Train nothing: measure a finished model and write its model card."),
    ] = False,
    first_seed: Annotated[
        int,
        typer.Option(
            min=0, help="With --report: measure on other held-out scenes, from this one on, and print only."
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="With --report: where to measure. (Training runs on the CPU.)")
    ] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train the packaged `mini` model from nothing; started again, it goes on where it stopped.

    It takes hours on two cores and less on more. Seeds and settings are recorded in OUT/model/training.json.
    """
    with shown_progress(quiet) as progress:
        if not report:
            from evenreel.training.mini import SETTINGS, train_mini

            chosen = _chosen(parts, tuple(SETTINGS))
            try:
                train_mini(
                    out or DEFAULT_FOLDER,
                    chosen,
                    lambda part, done, total, _: progress(f"train {part}", done, total),
                )
            except FloatingPointError as error:
                raise WeightsError(str(error)) from error
            return
        from evenreel.backbones import mini as packaged
        from evenreel.workflows.mini_report import report as measure

        folder = out or packaged.FOLDER
        folder = folder / "model" if (folder / "model").is_dir() else folder
        kept = first_seed == 0  # the card speaks of one set of scenes; others are for a second opinion
        figures = measure(folder, first=first_seed, device=device, write=kept, progress=progress)
    if quiet:
        return
    _print(figures)
    if kept:
        stdout().print(f"Model card: {folder / 'README.md'}", markup=False)


def adapter(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder of shards made by `evenreel data build`.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Where state, logs and the adapter go; a training begun there goes on."
        ),
    ] = Path("runs/adapter"),
    model: Annotated[str, typer.Option(help="The model it is made for, as of `evenreel edit`.")] = "mini",
    clip: Annotated[
        str,
        typer.Option(
            help="CLIP whose vision tower looks at frames: `mini`, or a folder in transformers' layout."
        ),
    ] = "mini",
    steps: Annotated[int, typer.Option(help="Optimizer steps.", rich_help_panel=TRAINING)] = 2000,
    learning_rate: Annotated[float, typer.Option(help="After warm-up.", rich_help_panel=TRAINING)] = 3e-5,
    warmup: Annotated[int, typer.Option(help="Steps of linear warm-up.", rich_help_panel=TRAINING)] = 500,
    accumulation: Annotated[
        int, typer.Option(help="Micro-batches of a step, over all processes.", rich_help_panel=TRAINING)
    ] = 8,
    pairs: Annotated[
        int, typer.Option(help="Groups of frames in a micro-batch.", rich_help_panel=TRAINING)
    ] = 1,
    gradient_clip: Annotated[
        float, typer.Option(help="Largest gradient norm.", rich_help_panel=TRAINING)
    ] = 1.0,
    precision: Annotated[
        str, typer.Option(help="no (float32), bf16, or fp16 (on a GPU).", rich_help_panel=TRAINING)
    ] = "no",
    seed: Annotated[int, typer.Option(min=0, help="Where randomness starts.", rich_help_panel=TRAINING)] = 0,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Between one saved state and the next.", rich_help_panel=TRAINING)
    ] = 120.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=TRAINING)] = "auto",
    rank: Annotated[int, typer.Option(help="Rank of the LoRA.", rich_help_panel=ADAPTER)] = 4,
    alpha: Annotated[
        float, typer.Option(help="The LoRA counts alpha / rank.", rich_help_panel=ADAPTER)
    ] = 4.0,
    scope: Annotated[
        str,
        typer.Option(
            help="Attention layers: down, all, or patterns with *, comma-separated.", rich_help_panel=ADAPTER
        ),
    ] = "down",
    shared_tokens: Annotated[int, typer.Option(help="Tokens all frames share.", rich_help_panel=ADAPTER)] = 8,
    frame_tokens: Annotated[
        str, typer.Option(help="Tokens of each frame: average, stride or none.", rich_help_panel=ADAPTER)
    ] = "average",
    temporal: Annotated[
        str,
        typer.Option(help="Temporal loss: frames, noise-levels or source-anchored.", rich_help_panel=LOSS),
    ] = "source-anchored",
    weight_temporal: Annotated[float, typer.Option(help="Of the temporal loss.", rich_help_panel=LOSS)] = 0.1,
    weight_diffusion: Annotated[
        float, typer.Option(help="Of the noise's error.", rich_help_panel=LOSS)
    ] = 1.0,
    window: Annotated[
        str, typer.Option(help="Noise levels it is trained at.", rich_help_panel=LOSS)
    ] = "0.5:1",
    shared_noise: Annotated[
        float, typer.Option(help="Share of the noise that frames have in common.", rich_help_panel=LOSS)
    ] = 0.0,
    unconditional: Annotated[
        float, typer.Option(help="Share of captions left out, for guidance.", rich_help_panel=LOSS)
    ] = 0.1,
    inference_window: Annotated[
        str, typer.Option(help="Noise levels it is used at by default.", rich_help_panel=ADAPTER)
    ] = "0.9:1",
    scale: Annotated[
        float, typer.Option(help="How much of it is used by default.", rich_help_panel=ADAPTER)
    ] = 0.5,
    licence: Annotated[
        str, typer.Option(help="Under which it comes; one line.", rich_help_panel=ADAPTER)
    ] = "Apache-2.0",
    validate: Annotated[
        Path | None,
        typer.Option(help="A clip that is edited now and then, as a film strip.", rich_help_panel=LOOK),
    ] = None,
    validate_prompt: Annotated[str, typer.Option(help="What that edit shows.", rich_help_panel=LOOK)] = "",
    validate_source_prompt: Annotated[
        str, typer.Option(help="What the clip shows.", rich_help_panel=LOOK)
    ] = "",
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between edits.", rich_help_panel=LOOK)
    ] = 250,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train an adapter that makes edits consistent; stopped at any moment, the same command goes on.

    On several GPUs, or processes: `accelerate launch -m evenreel train adapter DATA ...`. OUT/log.jsonl and, where
    TensorBoard is installed, OUT/tensorboard hold the losses; OUT/adapter.safetensors is what comes out.
    """
    from evenreel.adapters.adapter import AdapterSettings
    from evenreel.adapters.lora import LoraSettings
    from evenreel.adapters.prompt_tokens import PromptTokenSettings
    from evenreel.adapters.window import Window
    from evenreel.training.accelerated import AcceleratedSettings
    from evenreel.training.adapter import LossSettings
    from evenreel.workflows.train_adapter import AdapterTrainingSettings, Validation, train_adapter

    patterns = tuple(part.strip() for part in scope.split(",") if part.strip())
    tokens = None
    if shared_tokens or frame_tokens != "none":
        tokens = PromptTokenSettings(shared=shared_tokens, select=frame_tokens)
    settings = AdapterTrainingSettings(
        adapter=AdapterSettings(
            lora=LoraSettings(rank=rank, alpha=alpha, scope=scope if scope in ("down", "all") else patterns),
            tokens=tokens,
            training_window=Window.parse(window),
            inference_window=Window.parse(inference_window),
            scale=scale,
        ),
        loss=LossSettings(
            temporal=temporal,
            weight_temporal=weight_temporal,
            weight_diffusion=weight_diffusion,
            window=Window.parse(window),
            shared_noise=shared_noise,
            unconditional=unconditional,
        ),
        loop=AcceleratedSettings(
            steps=steps,
            learning_rate=learning_rate,
            warmup=warmup,
            accumulation=accumulation,
            gradient_clip=gradient_clip,
            precision=precision,
            checkpoint_seconds=checkpoint_seconds,
        ),
        model=model,
        clip=clip,
        pairs=pairs,
        seed=seed,
        device=device,
        licence=licence,
    )
    looked = None
    if validate is not None:
        looked = Validation(
            clip=validate, prompt=validate_prompt, source_prompt=validate_source_prompt, every=validate_every
        )
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    with shown_progress(quiet or not first) as progress:
        try:
            path = train_adapter(data, out, settings, validation=looked, progress=progress)
        except FloatingPointError as error:
            raise WeightsError(str(error)) from error
    if not quiet and first:
        stdout().print(f"Adapter: {path}", markup=False)


def _chosen(parts: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if parts is None:
        return known
    chosen = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not chosen or any(part not in known for part in chosen):
        raise SettingsError(f"--parts must name some of {', '.join(known)}, comma-separated, got {parts!r}.")
    return chosen


def _print(figures: "Sequence[Figure]") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "figure", "wanted", "measured"):
        table.add_column(column, justify="right" if column in ("wanted", "measured") else "left")
    for figure in figures:
        wanted = "" if figure.wanted is None else f">= {figure.wanted:g}"
        measured = f"{figure.value:.1f} {figure.unit}"
        table.add_row(figure.part, figure.name, wanted, measured if figure.reached else f"[red]{measured}[/]")
    stdout().print(table)
