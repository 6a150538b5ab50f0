"""`evenreel train adapter`."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import SettingsError, WeightsError

ADAPTER, EDITS, NOISE, TRAINING, LOOK = (
    "Adapter",
    "Learning from edits",
    "Learning from noise",
    "Training",
    "Validation edits",
)
SHOWN: dict[str, tuple[str, str]] = {
    "steps": ("2450", "2000"),
    "learning_rate": ("0.0003", "3e-05"),
    "warmup": ("60", "500"),
    "decay": ("1", "0"),
    "accumulation": ("2", "8"),
    "pairs": ("2", "1"),
    "scope": ("all", "down"),
    "shared_tokens": ("0", "8"),
    "frame_tokens": ("none", "average"),
    "weight_temporal": ("1.0", "0.1"),
    "window": ("0.5:1", "0.5:1"),
    "inference_window": ("0.5:1", "0.9:1"),
    "scale": ("0.6", "0.5"),
}
"""What --help shows of the recipes, which are not imported for it; a test compares them."""


def _option(panel: str, name: str, help_text: str) -> Any:
    """An option whose default depends on --learn."""
    shown = "{}; of noise {}".format(*SHOWN[name])
    return typer.Option(help=help_text, rich_help_panel=panel, show_default=shown)


def adapter(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of shards made by `evenreel data build`.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for states, logs and the adapter; a training begun there goes on."
        ),
    ] = Path("runs/adapter"),
    learn: Annotated[
        str,
        typer.Option(
            help="What the adapter learns from: `edits`, led towards right answers; or `noise` in clips, as published.",
        ),
    ] = "edits",
    model: Annotated[
        str, typer.Option(help="Model that the adapter is made for, as of `evenreel edit`.")
    ] = "mini",
    clip: Annotated[
        str,
        typer.Option(
            help="CLIP whose vision tower looks at frames: `mini`, or a folder in transformers' layout."
        ),
    ] = "mini",
    steps: Annotated[
        int | None,
        _option(TRAINING, "steps", "Optimizer steps in all; with `edits`, rounded up to whole edits."),
    ] = None,
    learning_rate: Annotated[
        float | None, _option(TRAINING, "learning_rate", "Learning rate after the warm-up.")
    ] = None,
    warmup: Annotated[
        int | None,
        _option(
            TRAINING,
            "warmup",
            "Steps over which the learning rate rises from zero; in a shorter training, a tenth.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes of training in all, over all runs in the folder; the training ends before --steps then.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    decay: Annotated[
        float | None,
        _option(
            TRAINING,
            "decay",
            "Share of the training, at its end, over which the learning rate falls to zero; at 0 it stays.",
        ),
    ] = None,
    accumulation: Annotated[
        int | None, _option(TRAINING, "accumulation", "Micro-batches of a step, over all processes together.")
    ] = None,
    pairs: Annotated[int | None, _option(TRAINING, "pairs", "Groups of frames in a micro-batch.")] = None,
    gradient_clip: Annotated[
        float,
        typer.Option(
            help="Largest norm of the gradient; a longer one is shortened to it.", rich_help_panel=TRAINING
        ),
    ] = 1.0,
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
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds from one saved state to the next.", rich_help_panel=TRAINING)
    ] = 120.0,
    device: Annotated[
        str,
        typer.Option(help="Device to train on: auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=TRAINING),
    ] = "auto",
    rank: Annotated[int, typer.Option(help="Rank of the LoRA.", rich_help_panel=ADAPTER)] = 4,
    alpha: Annotated[
        float,
        typer.Option(
            help="Weight of the LoRA, times its rank: what it adds is multiplied by alpha / rank.",
            rich_help_panel=ADAPTER,
        ),
    ] = 4.0,
    scope: Annotated[
        str | None,
        _option(
            ADAPTER,
            "scope",
            "Attention layers that the LoRA changes: down, all, or patterns with *, comma-separated.",
        ),
    ] = None,
    shared_tokens: Annotated[
        int | None, _option(ADAPTER, "shared_tokens", "Prompt tokens that all frames share.")
    ] = None,
    frame_tokens: Annotated[
        str | None,
        _option(
            ADAPTER,
            "frame_tokens",
            "Prompt tokens of each frame by itself, made of what CLIP sees in it: average, stride or none.",
        ),
    ] = None,
    window: Annotated[
        str | None,
        _option(
            ADAPTER,
            "window",
            "Noise levels at which the adapter is trained, as START:END from 0 (clean) to 1.",
        ),
    ] = None,
    inference_window: Annotated[
        str | None,
        _option(
            ADAPTER,
            "inference_window",
            "Noise levels at which edits use the adapter unless told otherwise, as START:END.",
        ),
    ] = None,
    scale: Annotated[
        float | None, _option(ADAPTER, "scale", "How much of the adapter edits use unless told otherwise.")
    ] = None,
    weight_temporal: Annotated[
        float | None,
        _option(TRAINING, "weight_temporal", "Weight of the temporal loss in the sum of losses."),
    ] = None,
    edit_steps: Annotated[
        int | None,
        typer.Option(
            help="Sampling steps of an edit that the adapter learns from.",
            show_default="15",
            rich_help_panel=EDITS,
        ),
    ] = None,
    edit_guidance: Annotated[
        str | None,
        typer.Option(
            help="Guidance scales between which that of each edit is drawn, as LOW:HIGH.",
            show_default="2:4",
            rich_help_panel=EDITS,
        ),
    ] = None,
    edit_host: Annotated[
        str | None,
        typer.Option(
            help="Host in which the edits that the adapter learns from are made; `evenreel hosts` lists them.",
            show_default="frame",
            rich_help_panel=EDITS,
        ),
    ] = None,
    edit_motion: Annotated[
        str | None,
        typer.Option(
            help="Motion modules at work in these edits: auto (those packaged with the model), a folder, a name on the "
            "hub, or off.",
            show_default="auto",
            rich_help_panel=EDITS,
        ),
    ] = None,
    temporal: Annotated[
        str | None,
        typer.Option(
            help="What the temporal loss compares: frames, noise-levels or source-anchored.",
            show_default="source-anchored",
            rich_help_panel=NOISE,
        ),
    ] = None,
    weight_diffusion: Annotated[
        float | None,
        typer.Option(
            help="Weight of the error of the predicted noise in the sum of losses.",
            show_default="1.0",
            rich_help_panel=NOISE,
        ),
    ] = None,
    shared_noise: Annotated[
        float | None,
        typer.Option(
            help="Share of the noise that frames have in common.", show_default="0.0", rich_help_panel=NOISE
        ),
    ] = None,
    unconditional: Annotated[
        float | None,
        typer.Option(
            help="Share of the captions that are left out, so that guidance works.",
            show_default="0.1",
            rich_help_panel=NOISE,
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence under which the adapter comes, in one line.", rich_help_panel=ADAPTER)
    ] = "Apache-2.0",
    validate: Annotated[
        Path | None,
        typer.Option(
            help="Clip that is edited now and then, to see how far the training is; each edit becomes a film strip.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    validate_prompt: Annotated[
        str, typer.Option(help="What the edit of --validate shows.", rich_help_panel=LOOK)
    ] = "",
    validate_source_prompt: Annotated[
        str, typer.Option(help="What the clip of --validate shows.", rich_help_panel=LOOK)
    ] = "",
    validate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="250",
            help="Optimizer steps from one edit of --validate to the next.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train an adapter that makes edits consistent; stopped at any moment, the same command goes on.

    On several GPUs, or processes: `accelerate launch --multi_gpu -m evenreel train adapter DATA ...` (also on a CPU,
    with --device cpu at the end: accelerate's own --cpu starts one process only). OUT/log.jsonl and, where
    TensorBoard is installed, OUT/tensorboard hold the losses; OUT/adapter.safetensors is what comes out.
    """
    from evenreel.adapters.prompt_tokens import PromptTokenSettings
    from evenreel.adapters.window import Window
    from evenreel.training.adapter import recipes
    from evenreel.workflows.training.adapter import Validation, train_adapter

    recipe = recipes.adapter(learn)
    tokens = recipe.adapter.tokens
    shared = shared_tokens if shared_tokens is not None else (tokens.shared if tokens else 0)
    select = frame_tokens if frame_tokens is not None else (tokens.select if tokens else "none")
    learnt_at = Window.parse(window) if window is not None else recipe.adapter.training_window
    used_at = learnt_at if learn == "edits" and window is not None else recipe.adapter.inference_window
    loss = {"window": learnt_at, "weight_temporal": weight_temporal}
    of_edits = {
        "edit_steps": edit_steps,
        "edit_guidance": edit_guidance,
        "edit_host": edit_host,
        "edit_motion": edit_motion,
    }
    of_noise = {
        "temporal": temporal,
        "weight_diffusion": weight_diffusion,
        "shared_noise": shared_noise,
        "unconditional": unconditional,
    }
    _refuse_told(of_noise if learn == "edits" else of_edits, learn)
    if learn == "edits":
        guided = None if edit_guidance is None else _range(edit_guidance)
        loss |= {"steps": edit_steps, "guidance_scale": guided, "host": edit_host, "motion": edit_motion}
    else:
        loss |= of_noise
    lora = recipe.adapter.lora
    assert lora is not None, "every recipe trains one"
    settings = _changed(
        recipe,
        adapter=_changed(
            recipe.adapter,
            lora=_changed(lora, rank=rank, alpha=alpha, scope=None if scope is None else _scope(scope)),
            training_window=learnt_at,
            inference_window=used_at if inference_window is None else Window.parse(inference_window),
            scale=scale,
        ),
        loss=_changed(recipe.loss, **loss),
        loop=_changed(
            recipe.loop,
            steps=steps,
            minutes=minutes,
            learning_rate=learning_rate,
            warmup=warmup,
            decay=decay,
            accumulation=accumulation,
            gradient_clip=gradient_clip,
            dtype=dtype,
            checkpoint_seconds=checkpoint_seconds,
        ),
        model=model,
        clip=clip,
        pairs=pairs,
        seed=seed,
        device=device,
        licence=licence,
    )
    wanted = PromptTokenSettings(shared=shared, select=select) if shared or select != "none" else None
    settings = dataclasses.replace(settings, adapter=dataclasses.replace(settings.adapter, tokens=wanted))
    looked = None
    if validate is None and (validate_prompt or validate_source_prompt or validate_every is not None):
        raise SettingsError(
            "the prompts and steps of validation go with --validate CLIP; name one, or leave them out."
        )
    if validate is not None:
        looked = Validation(
            clip=validate,
            prompt=validate_prompt,
            source_prompt=validate_source_prompt,
            every=Validation.every if validate_every is None else validate_every,
        )
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    with shown_progress(quiet or not first) as progress:
        try:
            path = train_adapter(data, out, settings, validation=looked, progress=progress)
        except FloatingPointError as error:
            raise WeightsError(str(error)) from error
    if not quiet and first:
        stdout().print(f"Adapter: {path}", markup=False)


def _refuse_told(options: Mapping[str, Any], learn: str) -> None:
    """Refuse options of the other way of learning. Raises: SettingsError."""
    for name, told in options.items():
        if told is not None:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{option} has no effect with --learn {learn}; leave it out.")


def _changed(settings: Any, **told: Any) -> Any:
    """Settings with what was told in place of their own; None leaves a field as it is."""
    return dataclasses.replace(settings, **{name: value for name, value in told.items() if value is not None})


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
