"""What can be done with a clip in a study: edits, degenerate controls, reconstructions; each returns figures."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from evenreel.backbones import Backbone
from evenreel.errors import OutputError, SettingsError
from evenreel.metrics.judge import Judge
from evenreel.study.items import Item
from evenreel.types import Frames
from evenreel.workflows.world_edits import WorldEdit, edit_frames, measured

THUMBNAIL = 128
"""Side of the pictures that the report shows, in pixels."""


@dataclass(frozen=True)
class Context:
    """What items are run with."""

    backbone: Backbone
    judge: Judge


@dataclass(frozen=True)
class Outcome:
    """What came of an item."""

    figures: Mapping[str, float | None]
    """By name; None where a figure cannot be had of this clip."""
    picture: Frames | None = None
    """What the report shows of it."""
    prompt: str = ""
    """The text that the picture should fit."""


def edit(context: Context, item: Item) -> Outcome:
    """An edit of the clip; options are settings of an edit."""
    world = WorldEdit.held_out(item.clip, item.frames)
    settings = world.settings(**{"steps": item.steps, "seed": item.seed, **item.condition.options})
    edited = edit_frames(context.backbone, world.source.frames, settings)
    return Outcome(finite(measured(world, edited, context.judge)), edited, settings.prompt)


def control(context: Context, item: Item) -> Outcome:
    """What no editor should make, but metrics must not be taken in by; option `what` names it."""
    world = WorldEdit.held_out(item.clip, item.frames)
    what = item.condition.options["what"]
    if what not in CONTROLS:
        raise SettingsError(f"there is no control {what!r}; there are {', '.join(CONTROLS)}.")
    frames = CONTROLS[what](world, item)
    return Outcome(finite(measured(world, frames, context.judge)), frames)


def _shuffled(world: WorldEdit, item: Item) -> Frames:
    generator = torch.Generator().manual_seed(item.clip * 1_000 + item.seed)
    return world.truth.frames[torch.randperm(item.frames, generator=generator)]


def _blurred(world: WorldEdit, item: Item) -> Frames:
    del item
    small = functional.interpolate(world.truth.frames, scale_factor=1 / 8, mode="area")
    return functional.interpolate(
        small, world.truth.frames.shape[-2:], mode="bilinear", align_corners=False
    ).clamp(0, 1)


CONTROLS: dict[str, Callable[[WorldEdit, Item], Frames]] = {
    "source": lambda world, _: world.source.frames,
    "truth": lambda world, _: world.truth.frames,
    "frozen": lambda world, _: world.truth.frames[:1].expand_as(world.truth.frames),
    "shuffled": _shuffled,
    "blurred": _blurred,
}
"""The source itself; the right answer; its first frame for ever; its frames in a random order; it without detail."""

KINDS: dict[str, Callable[[Context, Item], Outcome]] = {"edit": edit, "control": control}


def finite(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures that JSON can hold: the PSNR of equal pictures, infinity, becomes 100 dB."""
    capped = {name: value if value is None else min(value, 100.0) for name, value in figures.items()}
    if bad := [name for name, value in capped.items() if value is not None and not math.isfinite(value)]:
        raise ValueError(f"not finite: {', '.join(bad)}")
    return capped


def save_picture(frames: Frames, path: Path) -> str:
    """One row of small frames as a JPEG, whole or not at all; returns its name."""
    small = functional.interpolate(frames, (THUMBNAIL, THUMBNAIL), mode="area").clamp(0, 1)
    row = torch.cat(list(small), dim=-1).mul(255).round().byte().movedim(0, -1)
    buffer = io.BytesIO()
    Image.fromarray(row.numpy()).save(buffer, "JPEG", quality=88)
    aside = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(buffer.getvalue())
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); free some space.") from error
    return path.name


def option_text(options: Mapping[str, Any]) -> str:
    """Options for people."""
    flat = {**options, **options.get("host_options", {})}
    flat.pop("host_options", None)
    return ", ".join(f"{name} {value}" for name, value in flat.items())
