"""Training an adapter on shards, from its settings to its file; stopped at any moment, it goes on where it was."""

import dataclasses
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenreel import random
from evenreel.adapters import checkpoint
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin
from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.clip import ClipModel, load_clip
from evenreel.backbones.control import load_control
from evenreel.errors import EvenreelError, SettingsError, argument
from evenreel.files import make_folder
from evenreel.hosts.base import create_host
from evenreel.motion.modules import MotionModules
from evenreel.progress import Progress, listener
from evenreel.settings import AdapterUse, EditSettings
from evenreel.training.adapter import recipes
from evenreel.training.adapter.objective import draws, training_in
from evenreel.training.adapter.settings import (
    AdapterTrainingSettings,
    EditLossSettings,
    LossSettings,
    Objective,
    Validation,
)
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop import Training
from evenreel.training.processes import Processes
from evenreel.types import Pixels
from evenreel.video import Clip, load, probe
from evenreel.video.strip import film_strip
from evenreel.workflows.editing.additions.motion import MotionInUse
from evenreel.workflows.editing.edit import edit_clip
from evenreel.workflows.training.going_on import check_fits, check_same

logger = logging.getLogger(__name__)


def train_adapter(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: AdapterTrainingSettings | str = "edits",
    *,
    validation: Validation | None = None,
    progress: Progress | bool = False,
    **told: Any,
) -> Path:
    """Train an adapter on the shards in `data`, and return the path of the file: `adapter.safetensors` in `out`.

        path = evenreel.train_adapter("data", "runs/adapter", "edits", steps=5000, rank=8, progress=True)

    `settings` names a recipe, of which what is `told` is changed, as `evenreel train adapter --recipe` does; or it is
    all settings. State and logs lie in `out`, and the same call goes on where one was stopped. Started by
    `accelerate launch`, all processes share the work. Raises: SettingsError, DataError, WeightsError, OutputError;
    FloatingPointError when the loss is not finite, with the last good state kept.
    """
    data, out = Path(data), Path(out)
    if isinstance(settings, str):
        settings = recipes.adapter(settings, **told)
    elif told:
        raise SettingsError(f"{', '.join(sorted(told))} stand beside settings; put them into these.")
    progress = listener(progress)
    make_folder(out)
    shards = _shards(data, settings.loss)
    processes = Processes(settings.device)
    harmless = ("device", "cache_bytes")
    check_same(out, "adapter", settings, shards, harmless=harmless, write=processes.is_main)
    backbone = load_backbone(settings.model, device=settings.device, dtype="float32")
    check_fits(shards, backbone)
    looked_at = None if validation is None else checked(validation, settings, backbone)
    adapter, vision = _new(backbone, settings)
    encoded = Encoded(backbone, vision.frame_tokens if vision else None, limit=settings.cache_bytes)
    modules = _moving(backbone, settings.loss)
    control = None
    if isinstance(settings.loss, LossSettings) and settings.loss.control is not None:
        control = load_control(settings.loss.control, backbone)
    with training_in(backbone, adapter.to(backbone.device), settings.loss, modules, control) as trainee:
        draw, unit = draws(
            lambda number: shards.batch(number, settings.pairs, seed=settings.seed),
            encoded,
            settings.loss,
            settings.loop.accumulation,
            _asked_for(shards, settings.loss),
        )
        loop = settings.loop
        if loop.steps is not None:
            loop = dataclasses.replace(loop, steps=-(-loop.steps // unit) * unit)  # whole edits
        training = Training(
            *("adapter", trainee, loop, out),
            processes=processes,
            unit=unit,
            seed=settings.seed,
            log="log.jsonl",
        )
        if processes.is_main and not training.done:
            _tell_captions(shards, encoded)
        progress("train adapter", training.step, training.length)
        for step, figures in training.run(draw):
            news = ", ".join(
                f"{name} {value:.4f}" for name, value in figures.items() if name != "gradient_norm"
            )
            progress(f"train adapter: {news}", step, training.length)
            if (
                validation is not None
                and looked_at is not None
                and processes.is_main
                and (step % validation.every == 0 or training.done)
            ):
                _save(adapter, out / "last.safetensors", backbone, vision, settings, data, step)
                try:
                    _validate(out, settings, validation, looked_at, step)
                except (EvenreelError, OSError) as error:
                    logger.warning("no edit at step %d (%s) The training goes on.", step, error)
                adapter.train()
        if processes.is_main:
            training.trained()
            _save(adapter, out / "adapter.safetensors", backbone, vision, settings, data, training.step)
    return out / "adapter.safetensors"


def _shards(data: Path, loss: Objective) -> ShardedData:
    """The data, with the maps that the loss asks for where they are there."""
    shards = ShardedData(data)
    if isinstance(loss, EditLossSettings):
        return shards
    if loss.temporal == "frames" and shards.settings.frames < 3:
        raise SettingsError(
            f"the temporal loss frames needs groups of 3 frames or more, {data} has {shards.settings.frames}; "
            f"build the data with {argument('frames')} 3."
        )
    if loss.control is not None:
        shards = ShardedData(data, maps=("depth",))  # which are there, or it says so
    maps = ("depth", "flow") if loss.temporal == "source-anchored" else ()
    return ShardedData(data, maps=maps) if maps and set(maps) <= set(shards.settings.maps) else shards


def _asked_for(shards: ShardedData, loss: Objective) -> tuple[str, ...]:
    """All captions, where edits that are learnt from ask for those of other clips."""
    if not isinstance(loss, EditLossSettings) or loss.answers != "cycle":
        return ()
    return tuple(caption for _, caption in shards.captions())


def _moving(backbone: Backbone, loss: Objective) -> MotionModules | None:
    """The motion modules of the edits that are learnt from; None where there are none."""
    if not isinstance(loss, EditLossSettings):
        return None
    host = create_host(loss.host, loss.host_options)
    used = MotionInUse.opened(loss.motion, EditSettings.motion_window, backbone, host, download=False)
    return None if used is None else used.modules


def _new(backbone: Backbone, settings: AdapterTrainingSettings) -> tuple[Adapter, ClipModel | None]:
    tokens = settings.adapter.tokens
    vision, width = None, None
    if tokens is not None and tokens.select != "none":
        vision = load_clip(settings.clip, device=backbone.device)
        width = vision.vision_width
    generator = random.generator(settings.seed)
    return Adapter.of(backbone, settings.adapter, vision_width=width, generator=generator), vision


def _save(
    adapter: Adapter,
    path: Path,
    backbone: Backbone,
    vision: ClipModel | None,
    settings: AdapterTrainingSettings,
    data: Path,
    step: int,
) -> None:
    notes = json.loads(json.dumps(asdict(settings), default=str))
    origin = Origin(
        base=backbone.unet_fingerprint,  # which stays when the model is saved again
        base_name=backbone.name,
        vision=vision.fingerprint if vision else None,
        vision_name=Path(vision.name).name if vision else "",
        licence=settings.licence,
        notes={"settings": notes, "data": data.name, "steps": step},
    )
    checkpoint.save(adapter, path, origin)


def checked(validation: Validation, settings: AdapterTrainingSettings, backbone: Backbone) -> Clip:
    """Return the frames that are edited. Raises any EvenreelError for what an edit of them would fail of."""
    backbone.embed([validation.prompt, validation.source_prompt])
    create_host(validation.host)
    length = probe(validation.clip).estimated_frame_count
    frames = validation.frames if length is None else min(validation.frames, length)
    return load(validation.clip, 0, frames)


def _tell_captions(shards: ShardedData, encoded: Encoded) -> None:
    """Warn, before the first step, of captions that are not read whole."""
    cut = [(clip, caption) for clip, caption in shards.captions() if not encoded.fits(caption)]
    if cut:
        clip, caption = cut[0]
        logger.warning(
            "%d captions of %d clips are too long for the model, and what is behind is cut off; the first is "
            "'%s...' of %s",
            *(len(cut), len({clip for clip, _ in cut}), caption[:40], clip),
        )


def _validate(
    out: Path, settings: AdapterTrainingSettings, validation: Validation, clip: Clip, step: int
) -> None:
    """Edit the clip without the adapter and with it; a film strip of source, both edits."""
    edits: list[Pixels] = []
    # In a model of its own: the one that is trained has the adapter in it.
    fresh = load_backbone(settings.model, device=settings.device)
    for adapter in (None, AdapterUse(file=str(out / "last.safetensors"))):
        told = EditSettings(
            prompt=validation.prompt,
            source_prompt=validation.source_prompt,
            model=settings.model,
            host=validation.host,
            steps=validation.steps,
            adapter=adapter,
        )
        edits.append(edit_clip(clip, told, backbone=fresh).frames)
    labels = ["source", "without the adapter", f"with the adapter of step {step}"]
    folder = out / "validation"
    folder.mkdir(exist_ok=True)
    film_strip([clip.frames, *edits], labels, folder / f"step-{step:06}.png")
