"""What can be done with a clip in a study: edits, degenerate controls, looks inside the model; each returns figures."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evenreel import random
from evenreel.backbones import Backbone
from evenreel.backbones.clip import ClipModel
from evenreel.backbones.map_models import MapModels
from evenreel.errors import SettingsError
from evenreel.files import unwritable, write_atomically
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.study.items import CONTROLS, Item
from evenreel.study.run import maps
from evenreel.study.run.footage import Filmed
from evenreel.study.run.subjects import FilmedSubject, RenderedSubject, Subject, Towers
from evenreel.types import Frames, Latents
from evenreel.workflows.world.drawing import drawn_frames, maps_of
from evenreel.workflows.world.edits import WorldEdit, edit_frames, softened

THUMBNAIL = 128
"""Side of the pictures that the report shows, in pixels."""
LOG_POINTS = 100
"""Points of a curve over a training, each the mean of its part of the steps."""


@dataclass(frozen=True)
class Context:
    """What items are run with."""

    backbone: Backbone
    clip: ClipModel | None
    files: Mapping[str, Path] = field(default_factory=dict)
    """Where the files lie that options name."""
    filmed: tuple[Filmed, ...] = ()
    """Clips from cameras, by number; of a study on the rendered world there are none."""
    towers: Towers = field(default_factory=Towers)
    """What clips from cameras are measured with."""
    controls: Mapping[str, str] = field(default_factory=dict)
    """ControlNets by the kind of map that they are shown, where they are not the packaged ones."""
    looking: MapModels = field(default_factory=MapModels)
    """Models that make depth and poses of clips from cameras."""

    def subject(self, item: Item, frames: int | None = None) -> Subject:
        """Return the clip that an item is about, of as many frames as the item has, or as told."""
        count = item.frames if frames is None else frames
        if self.filmed:
            return FilmedSubject(self.filmed[item.clip], count, self.backbone.native_size, self.towers)
        return RenderedSubject(WorldEdit.held_out(item.clip, count), self.clip)


@dataclass(frozen=True)
class Outcome:
    """What came of an item."""

    figures: Mapping[str, float | None]
    """By name; None where a figure cannot be had of this clip."""
    picture: Frames | None = None
    """What the report and raters are shown of it."""
    prompt: str = ""
    """The text that the picture should fit."""
    maps: Mapping[str, Frames] = field(default_factory=dict)
    """Rows of small pictures for the report alone, by what they show."""
    series: Mapping[str, list[float]] = field(default_factory=dict)
    """Curves, by name; all of one length."""


def edit(context: Context, item: Item) -> Outcome:
    """Edit the clip; options are settings of an edit."""
    subject = context.subject(item)
    settings = _settings(context, item, subject)
    timesteps: list[float] = []
    similarity: list[float] = []

    def see(timestep: int, latents: Latents) -> None:
        timesteps.append(float(timestep))
        similarity.append(_likeness(latents))

    edited = edit_frames(context.backbone, subject.frames, settings, see)
    series = {"timestep": timesteps, "similarity": similarity}
    mean = sum(similarity) / len(similarity)
    figures = {**subject.measured(edited), "similarity": mean}
    return Outcome(figures, edited, settings.prompt, series=series)


def drawn(context: Context, item: Item) -> Outcome:
    """Make a clip from text, with a ControlNet that is shown the maps of a clip; options are settings of it, and
    `control`, the kind of the maps, if any.

    Measured against the clip whose maps they are: a scene of the world with a person in it, or one from a camera.
    """
    options = dict(item.condition.options)
    kind = options.pop("control", None)
    subject = context.subject(item)
    told = {"exact": True, "motion": "off", "steps": item.steps, "seed": item.seed, **options}
    if told.get("adapter"):
        told["adapter"] = str(context.files[told["adapter"]])
    shown: Frames | None = None
    if isinstance(subject, RenderedSubject):
        world = WorldEdit.of_a_person(item.clip, item.frames)
        subject = RenderedSubject(world, context.clip)
        shown = None if kind is None else maps_of(world.scene, world.source, kind)
    elif kind is not None:
        shown = context.looking.control_maps(subject.frames, kind)
    settings = GenerateSettings.from_json(
        {"prompt": subject.settings().prompt, "frames": item.frames, **told}
    )
    net = kind and context.controls.get(kind, f"mini-{kind}")
    frames = drawn_frames(context.backbone, settings, net, kind, shown)
    return Outcome(subject.measured(frames), frames, settings.prompt)


def softened_edit(context: Context, item: Item) -> Outcome:
    """Edit the clip and blur it by a pixel: what lower errors cost nothing. Options are settings of an edit."""
    subject = context.subject(item)
    frames = softened(edit_frames(context.backbone, subject.frames, _settings(context, item, subject)))
    return Outcome(subject.measured(frames), frames)


def control(context: Context, item: Item) -> Outcome:
    """Make what no editor should make, but metrics must not be taken in by; option `what` names it."""
    subject = context.subject(item)
    what = item.condition.options["what"]
    if what not in CONTROLS:
        raise SettingsError(f"there is no control {what!r}; there are {', '.join(CONTROLS)}.")
    frames = _MADE[what](subject, item)
    return Outcome(subject.measured(frames), frames)


def attention(context: Context, item: Item) -> Outcome:
    """Map where each frame of an edit attends to the changed words; options are settings of an edit, `timesteps`, and
    `by_layer`."""
    options = dict(item.condition.options)
    timesteps, by_layer = options.pop("timesteps"), options.pop("by_layer", False)
    subject = context.subject(item)
    # one network call for all frames, which keeps them in their order
    settings = _settings(context, item, subject, {**options, "batch": item.frames})
    if by_layer:
        layers = maps.layer_maps(context.backbone, subject.frames, settings, timesteps)
        changes = {
            f"map_change_{timestep}": sum(map(maps.change, of_layer.values())) / len(of_layer)
            for timestep, of_layer in layers.items()
        }
        rows = {
            f"t = {timestep}, {layer}": maps.pictures(one)
            for timestep, of_layer in layers.items()
            for layer, one in of_layer.items()
        }
        return Outcome(changes, maps=rows)
    found = maps.attention_maps(context.backbone, subject.frames, settings, timesteps)
    changes = {f"map_change_{timestep}": maps.change(found[timestep]) for timestep in timesteps}
    shown = {f"t = {timestep}": maps.pictures(found[timestep]) for timestep in timesteps}
    return Outcome(changes, maps=shown)


def features(context: Context, item: Item) -> Outcome:
    """Map what the decoder's attentions to the prompt give for two adjacent frames; options `adapter`, `timesteps`."""
    options = dict(item.condition.options)
    timesteps = options.pop("timesteps")
    subject = context.subject(item, 2)
    settings = _settings(context, item, subject, options)
    found = maps.feature_maps(context.backbone, subject.frames, settings, timesteps)
    changes = {
        f"map_change_{timestep}": sum(map(maps.change, found[timestep])) / len(found[timestep])
        for timestep in timesteps
    }
    shown = {
        f"frame {frame + 1}, t = {timestep}": torch.cat(
            [maps.pictures(block)[frame : frame + 1] for block in found[timestep]]
        )
        for timestep in timesteps
        for frame in range(2)
    }
    return Outcome(changes, maps=shown)


def training(context: Context, item: Item) -> Outcome:
    """Read how a training's losses went; option `log` names its log.jsonl. Raises: SettingsError for another file."""
    told = logged_losses(context.files[item.condition.options["log"]])
    parts = told.tensor_split(min(LOG_POINTS, len(told)))
    points = torch.stack([part.mean(0) for part in parts]).T.tolist()
    tenth = max(1, len(told) // 10)
    first, last = told[:tenth].mean(0).tolist(), told[-tenth:].mean(0).tolist()
    return Outcome(
        {"temporal_first": first[1], "temporal_last": last[1]},
        series=dict(zip(("step", "temporal"), points, strict=True)),
    )


def logged_losses(path: Path) -> Float[Tensor, "steps 2"]:
    """Return step and temporal loss of every line of a training's log.jsonl. Raises: SettingsError for another file."""
    try:
        steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = torch.tensor([[float(s[name]) for name in ("step", "temporal")] for s in steps])
        if not len(told) or not bool(torch.isfinite(told).all()):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        raise SettingsError(
            f"{path} is not a log.jsonl of `evenreel train adapter`; name another, or none."
        ) from error
    return told


def _settings(
    context: Context, item: Item, subject: Subject, options: Mapping[str, Any] | None = None
) -> EditSettings:
    told = {
        "keep": "off",  # what a host does is measured everywhere
        "exact": True,  # and as it was published
        "steps": item.steps,
        "seed": item.seed,
        "inversion": item.inversion,
        **(item.condition.options if options is None else options),
    }
    if told.get("adapter"):
        told["adapter"] = str(context.files[told["adapter"]])
    return subject.settings(**told)


def _likeness(latents: Latents) -> float:
    """Mean cosine of neighbouring frames."""
    flat = latents.flatten(1).double()
    return float(functional.cosine_similarity(flat[1:], flat[:-1]).mean()) if len(flat) > 1 else 1.0


def _shuffled(subject: Subject, item: Item) -> Frames:
    generator = random.generator(item.clip * 1_000 + item.seed)
    return subject.answer[torch.randperm(item.frames, generator=generator)]


def _blurred(subject: Subject, item: Item) -> Frames:
    del item
    small = functional.interpolate(subject.answer, scale_factor=1 / 8, mode="area")
    return functional.interpolate(
        small, subject.answer.shape[-2:], mode="bilinear", align_corners=False
    ).clamp(0, 1)


_MADE: dict[str, Callable[[Subject, Item], Frames]] = {
    "source": lambda subject, _: subject.frames,
    "truth": lambda subject, _: subject.answer,
    "frozen": lambda subject, _: subject.answer[:1].expand_as(subject.answer),
    "shuffled": _shuffled,
    "blurred": _blurred,
}
assert tuple(_MADE) == CONTROLS

KINDS: dict[str, Callable[[Context, Item], Outcome]] = {
    "edit": edit,
    "drawn": drawn,
    "softened": softened_edit,
    "control": control,
    "attention": attention,
    "features": features,
    "training": training,
}


def save_picture(frames: Frames, path: Path) -> str:
    """Save one row of small frames as a JPEG, whole or not at all, and return its name."""
    mode = "nearest" if frames.shape[-1] < THUMBNAIL else "area"
    small = functional.interpolate(frames, (THUMBNAIL, THUMBNAIL), mode=mode).clamp(0, 1)
    row = torch.cat(list(small), dim=-1).mul(255).round().byte().movedim(0, -1)
    buffer = io.BytesIO()
    Image.fromarray(row.numpy()).save(buffer, "JPEG", quality=88)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    write_atomically(path, buffer.getvalue())
    return path.name


def option_text(options: Mapping[str, Any]) -> str:
    """Write a condition's options in words, for people."""
    flat = {**options, **options.get("host_options", {})}
    flat.pop("host_options", None)
    return ", ".join(f"{name} {value}" for name, value in flat.items())
