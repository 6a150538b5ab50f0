"""`evenreel train adapter`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError, WeightsError

if TYPE_CHECKING:
    from evenreel.training.objective import Objective

ADAPTER, EDITS, NOISE, TRAINING, LOOK = (
    "Adapter",
    "Learning from edits",
    "Learning from noise",
    "Training",
    "Validation edits",
)
DEFAULTS: dict[str, dict[str, Any]] = {
    "edits": {
        "steps": 2450,
        "learning_rate": 3e-4,
        "warmup": 60,
        "final_rate": 0.05,
        "accumulation": 2,
        "pairs": 2,
        "scope": "all",
        "shared_tokens": 0,
        "frame_tokens": "none",
        "weight_temporal": 1.0,
        "window": "0.5:1",
        "inference_window": "0.5:1",
        "scale": 0.6,
    },
    "noise": {
        "steps": 2000,
        "learning_rate": 3e-5,
        "warmup": 500,
        "final_rate": 1.0,
        "accumulation": 8,
        "pairs": 1,
        "scope": "down",
        "shared_tokens": 8,
        "frame_tokens": "average",
        "weight_temporal": 0.1,
        "window": "0.5:1",
        "inference_window": "0.9:1",
        "scale": 0.5,
    },
}
"""By what is learnt from: for edits as measured best (docs/adapter.md), for noise as published (arXiv:2501.04606)."""


def _option(panel: str, name: str, help_text: str) -> Any:
    """An option whose default depends on --learn."""
    edits, noise = (DEFAULTS[learn][name] for learn in ("edits", "noise"))
    shown = f"{edits}; of noise {noise}"
    return typer.Option(help=help_text, rich_help_panel=panel, show_default=shown)


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
    learn: Annotated[
        str,
        typer.Option(
            help="From `edits`: led along its own edits towards right answers; or from `noise` in clips, as published.",
        ),
    ] = "edits",
    model: Annotated[str, typer.Option(help="The model it is made for, as of `evenreel edit`.")] = "mini",
    clip: Annotated[
        str,
        typer.Option(
            help="CLIP whose vision tower looks at frames: `mini`, or a folder in transformers' layout."
        ),
    ] = "mini",
    steps: Annotated[
        int | None, _option(TRAINING, "steps", "Optimizer steps; as many more as end an edit.")
    ] = None,
    learning_rate: Annotated[float | None, _option(TRAINING, "learning_rate", "After warm-up.")] = None,
    warmup: Annotated[int | None, _option(TRAINING, "warmup", "Steps of linear warm-up.")] = None,
    final_rate: Annotated[
        float | None,
        _option(TRAINING, "final_rate", "Share of the learning rate to which it falls at the end."),
    ] = None,
    accumulation: Annotated[
        int | None, _option(TRAINING, "accumulation", "Micro-batches of a step, over all processes.")
    ] = None,
    pairs: Annotated[int | None, _option(TRAINING, "pairs", "Groups of frames in a micro-batch.")] = None,
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
        str | None,
        _option(ADAPTER, "scope", "Attention layers: down, all, or patterns with *, comma-separated."),
    ] = None,
    shared_tokens: Annotated[
        int | None, _option(ADAPTER, "shared_tokens", "Tokens all frames share.")
    ] = None,
    frame_tokens: Annotated[
        str | None, _option(ADAPTER, "frame_tokens", "Tokens of each frame: average, stride or none.")
    ] = None,
    window: Annotated[
        str | None,
        _option(ADAPTER, "window", "Noise levels it is trained at, START:END from 0 (clean) to 1."),
    ] = None,
    inference_window: Annotated[
        str | None, _option(ADAPTER, "inference_window", "Noise levels it is used at by default.")
    ] = None,
    scale: Annotated[float | None, _option(ADAPTER, "scale", "How much of it is used by default.")] = None,
    weight_temporal: Annotated[
        float | None, _option(TRAINING, "weight_temporal", "Of the temporal loss.")
    ] = None,
    edit_steps: Annotated[int, typer.Option(help="Sampling steps of an edit.", rich_help_panel=EDITS)] = 15,
    edit_guidance: Annotated[
        str, typer.Option(help="LOW:HIGH, between which its guidance is drawn.", rich_help_panel=EDITS)
    ] = "2:4",
    temporal: Annotated[
        str,
        typer.Option(help="Temporal loss: frames, noise-levels or source-anchored.", rich_help_panel=NOISE),
    ] = "source-anchored",
    weight_diffusion: Annotated[
        float, typer.Option(help="Of the noise's error.", rich_help_panel=NOISE)
    ] = 1.0,
    shared_noise: Annotated[
        float, typer.Option(help="Share of the noise that frames have in common.", rich_help_panel=NOISE)
    ] = 0.0,
    unconditional: Annotated[
        float, typer.Option(help="Share of captions left out, for guidance.", rich_help_panel=NOISE)
    ] = 0.1,
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

    On several GPUs, or processes: `accelerate launch --multi_gpu -m evenreel train adapter DATA ...` (also on a CPU,
    with --device cpu at the end: accelerate's own --cpu starts one process only). OUT/log.jsonl and, where
    TensorBoard is installed, OUT/tensorboard hold the losses; OUT/adapter.safetensors is what comes out.
    """
    if learn not in DEFAULTS:
        raise SettingsError(f"--learn must be edits or noise, got {learn[:40]!r}.")
    told = {
        "steps": steps,
        "learning_rate": learning_rate,
        "warmup": warmup,
        "final_rate": final_rate,
        "accumulation": accumulation,
        "pairs": pairs,
        "scope": scope,
        "shared_tokens": shared_tokens,
        "frame_tokens": frame_tokens,
        "weight_temporal": weight_temporal,
        "window": window,
        "inference_window": inference_window,
        "scale": scale,
    }
    chosen = DEFAULTS[learn] | {name: value for name, value in told.items() if value is not None}
    if window is not None and inference_window is None and learn == "edits":
        chosen["inference_window"] = window

    from evenreel.adapters.adapter import AdapterSettings
    from evenreel.adapters.lora import LoraSettings
    from evenreel.adapters.prompt_tokens import PromptTokenSettings
    from evenreel.adapters.window import Window
    from evenreel.training.accelerated import AcceleratedSettings
    from evenreel.workflows.training.adapter import AdapterTrainingSettings, Validation, train_adapter

    tokens = None
    if chosen["shared_tokens"] or chosen["frame_tokens"] != "none":
        tokens = PromptTokenSettings(shared=chosen["shared_tokens"], select=chosen["frame_tokens"])
    settings = AdapterTrainingSettings(
        adapter=AdapterSettings(
            lora=LoraSettings(rank=rank, alpha=alpha, scope=_scope(chosen["scope"])),
            tokens=tokens,
            training_window=Window.parse(chosen["window"]),
            inference_window=Window.parse(chosen["inference_window"]),
            scale=chosen["scale"],
            in_inversion=learn == "noise",
        ),
        loss=_loss(
            learn,
            window=chosen["window"],
            weight_temporal=chosen["weight_temporal"],
            edits={"steps": edit_steps, "guidance_scale": _range(edit_guidance)},
            noise={
                "temporal": temporal,
                "weight_diffusion": weight_diffusion,
                "shared_noise": shared_noise,
                "unconditional": unconditional,
            },
        ),
        loop=AcceleratedSettings(
            steps=chosen["steps"],
            learning_rate=chosen["learning_rate"],
            warmup=chosen["warmup"],
            final_rate=chosen["final_rate"],
            accumulation=chosen["accumulation"],
            gradient_clip=gradient_clip,
            precision=precision,
            checkpoint_seconds=checkpoint_seconds,
        ),
        model=model,
        clip=clip,
        pairs=chosen["pairs"],
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


def _loss(
    learn: str, *, window: str, weight_temporal: float, edits: dict[str, Any], noise: dict[str, Any]
) -> "Objective":
    from evenreel.adapters.window import Window
    from evenreel.training.adapter import LossSettings
    from evenreel.training.edits import EditLossSettings

    kind, details = (EditLossSettings, edits) if learn == "edits" else (LossSettings, noise)
    return kind(window=Window.parse(window), weight_temporal=weight_temporal, **details)


def _scope(text: str) -> str | tuple[str, ...]:
    patterns = tuple(part.strip() for part in text.split(",") if part.strip())
    return text if text in ("down", "all") else patterns


def _range(text: str) -> tuple[float, float]:
    low, found, high = text.partition(":")
    try:
        return float(low), float(high if found else low)
    except ValueError as error:
        raise SettingsError(
            f"--edit-guidance must be LOW:HIGH, for example 2:4, got {text[:40]!r}."
        ) from error
