"""Everything that a run needs, opened and checked before its long work begins; and what the record says of it."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from evenreel import registry
from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.devices import MIXED
from evenreel.errors import OutputError, SettingsError, argument
from evenreel.hosts.base import Host, create_host
from evenreel.progress import Progress
from evenreel.settings import EditSettings, RunSettings
from evenreel.settings.runs import Run
from evenreel.video import VideoInfo, probe
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from evenreel.workflows.editing.additions.control import Conditions, map_models
from evenreel.workflows.editing.additions.loras import Additions
from evenreel.workflows.editing.additions.motion import OFF, MotionInUse, chosen_host
from evenreel.workflows.editing.computing.stages import Stages
from evenreel.workflows.editing.records import job_use, record, resource_use
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.setup import idle, number_type
from evenreel.workflows.editing.setup.callers import check_backbone

log = logging.getLogger(__name__)

Opened = TypeVar("Opened", bound=Stages)


def opened(
    kind: type[Opened],
    settings: RunSettings,
    backbone: Backbone | None,
    progress: Progress,
    *,
    prompts: list[str],
    inversion: Any,
    frames: int | None,
    download: bool,
) -> Opened:
    """Open a pipeline with its model loaded, unless there is one, and find all that can be wrong with `settings`.

    `inversion` is that of an edit, None for a clip from text; `frames` are those of the clip, as far as known. What has
    no effect is refused, or a warning.
    """
    check_backbone(backbone)
    with_source = inversion is not None
    model = settings.model if backbone is None else backbone.name
    host_name = chosen_host(settings.host, settings.motion, model, settings.usual_host)
    settings = dataclasses.replace(settings, host=host_name)
    # wrong options fail before weights load
    host: Host = create_host(settings.host, settings.host_options, with_source=with_source)
    idle.refuse_idle(host, settings, idle.occasion_of(settings, settings.guidance_scale, frames))
    progress("load model", 0, None)
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.stage("load"):
        if backbone is None:
            backbone = loaded(settings, download=download)
        else:
            settings = _settings_of(backbone, settings)
        _ = backbone.schedule.timesteps(settings.steps or 1)  # too many steps, or
        additions = Additions.opened(
            backbone,
            prompts,
            loras=settings.lora,
            embeddings=settings.embedding,
            syntax=settings.prompt_syntax,
        )
        for notice in additions.notices:
            log.warning("%s", notice)
        with additions.at_work(backbone):
            backbone.embed(prompts)  # too long a prompt
        _ = backbone.unet
        conditions = None
        if settings.control is not None:
            models = map_models(settings, backbone.device)
            conditions = Conditions.opened(
                settings.control, settings.batch, backbone, models, download=download
            )
        adapter = AdapterInUse.opened(settings.adapter, backbone, with_source=with_source)
        motion = MotionInUse.opened(
            settings.motion, settings.motion_window, backbone, host, download=download
        )
        stages = kind(backbone, host, settings, progress, stopwatch, conditions, adapter, additions, motion)
        if adapter is not None:
            timesteps = backbone.schedule.timesteps(stages.steps)
            idle.check_window(adapter, timesteps, len(backbone.schedule.alphas_cumprod))
    stopwatch.device = backbone.device
    resource_use.reset_device_peak(backbone.device)
    occasion = idle.occasion_of(settings, stages.guidance_scale, frames)
    for notice in idle.notices(settings, host, inversion, stages.guidance_scale, stages.steps, occasion):
        stages.notice(notice)
    return stages


def recorded(stages: Stages, working: tuple[int, int]) -> dict[str, Any]:
    """Return what records of edits and of clips made from text have in common; `working` is the model's (width,
    height)."""
    backbone, settings = stages.backbone, stages.settings
    conditions, motion = stages.conditions, stages.motion
    found = {**job_use.found_again(settings), "motion": OFF if motion is None else motion.name}
    return {
        "record_version": record.RECORD_VERSION,
        "made": record.now(),
        "settings": {**found, **stages.chosen, **_number_type(backbone)},
        "model": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "host": {"name": settings.host, "settings": record.plain(stages.host)},
        "control": None if conditions is None else conditions.described(),
        "adapter": None if stages.adapter is None else stages.adapter.described(),
        **({} if stages.additions is None else stages.additions.described()),
        "motion": None if motion is None else motion.described(),
        "warnings": list(stages.notices),
        "working_size": list(working),
        "versions": record.versions(),
        "machine": record.machine(backbone),
        "seconds": {stage: round(seconds, 3) for stage, seconds in stages.stopwatch.seconds.items()},
        "peak_memory": {
            "process_bytes": resource_use.peak_process_bytes(),
            "device_bytes": resource_use.peak_device_bytes(backbone.device),
        },
    }


def may_be_mixed(settings: RunSettings) -> bool:
    """Tell whether a run is of the kind whose quality in mixed precision was measured (docs/performance.md)."""
    host = chosen_host(settings.host, settings.motion, settings.model, settings.usual_host)
    edit = isinstance(settings, EditSettings) and host == "frame"
    return edit and settings.dtype == "auto" and not settings.exact


def _number_type(backbone: Backbone) -> dict[str, str]:
    """What a record says in the place of `auto` where that is not the same on all machines of a kind."""
    return {"dtype": record.number_type(backbone)} if backbone.device.type == "cpu" else {}


def described_output(target: Path, finished: Path) -> dict[str, Any]:
    """Describe a result as the record keeps it, from where it lies until it is renamed to `target`."""
    return {
        "path": str(target.absolute()),
        "sha256": record.hash_of(sorted(finished.iterdir()) if finished.is_dir() else (finished,)),
    }


def control_clips(settings: RunSettings) -> tuple[VideoInfo, ...]:
    """Return the clips that ControlNets are to be shown in the place of the source. Raises: ClipError."""
    return tuple(probe(use.clip) for use in settings.control or () if use.clip is not None)


def check_apart(
    sources: Sequence[VideoInfo], target: Path, record_path: Path | None = None, *others: Path
) -> None:
    """Refuse to write over a source, under whatever name, or over a JSON file that is not ours.

    `record_path` is None where there is no record; `others` are what else is written.
    """
    every = [path for path in (target, record_path, *others) if path is not None]
    for info in sources:
        for source in (info.path, *info.images):
            for written in every:
                if _same_place(source, written):
                    raise OutputError(f"{written} is the source itself; choose another {argument('output')}.")
        if info.is_images and _same_place(info.path, target.parent) and not target.suffix:
            raise OutputError(f"{target} lies inside the source folder; choose another {argument('output')}.")
    if record_path is not None:
        record.check_record_place(record_path)


def loaded(settings: RunSettings, *, download: bool) -> Backbone:
    """Load the model of some settings, in the number type that suits them. Raises: WeightsError, PluginError."""
    backbone = load_backbone(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        download=download,
        **model_options(settings),
    )
    if may_be_mixed(settings):
        number_type.choose(backbone, settings.batch)
    return backbone


def model_options(settings: RunSettings) -> dict[str, Any]:
    """Return what settings say of how a model is put together, for `load_backbone`."""
    told = {name: getattr(settings, name) for name in ("vae", "clip_skip", "tokenizer", "prediction_type")}
    told["preset"] = (
        settings.preset if settings.preset == "low-memory" else None
    )  # `fast` is no model's matter
    return {name: value for name, value in told.items() if value is not None}


def _settings_of(backbone: Backbone, settings: Run) -> Run:
    """Settings that name the model that is used, not the one that would have been loaded."""
    same = backbone.name == settings.model or registry.is_backbone(settings.model, backbone.name)
    dtype = record.number_type(backbone)
    loaded_with = dict(backbone.options)
    if different := [
        name for name, value in model_options(settings).items() if loaded_with.get(name, 1) != value
    ]:
        raise SettingsError(
            f"{argument(different[0])} is told when a model is loaded, and this one was loaded without; pass it to "
            "load_backbone."
        )
    for name, told, has in (
        ("dtype", settings.dtype, dtype),
        ("device", settings.device, str(backbone.device)),
    ):
        # "cuda" is any of its devices
        if told != "auto" and told not in (has, has.partition(":")[0]):
            raise SettingsError(
                f"{argument(name)} {told} is told when a model is loaded, and this one is in {has}; pass it to "
                "load_backbone."
            )
    return dataclasses.replace(
        settings,
        **loaded_with,
        model=settings.model if same else backbone.name,
        device=str(backbone.device),
        dtype=dtype if dtype in ("float32", "float16", "bfloat16", MIXED) else settings.dtype,
    )


def _same_place(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()
