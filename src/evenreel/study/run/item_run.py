"""One item of a study: what is needed to run it, and its line; the same in this process and in others."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evenreel.backbones import load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.backbones.map_models import MapModels
from evenreel.backbones.vision import load_dino
from evenreel.errors import SettingsError
from evenreel.metrics.inception import Inception
from evenreel.metrics.lpips import Lpips
from evenreel.study.items import Item
from evenreel.study.run import actions
from evenreel.study.run.footage import listed
from evenreel.study.run.subjects import Towers
from evenreel.study.settings import StudySettings


@dataclass(frozen=True)
class Planned:
    """An item that is to be there."""

    item: Item
    key: str
    picture: bool
    """Whether its frames are kept for the report."""
    files: Mapping[str, str]
    """Hashes of the files that its options name."""


@dataclass(frozen=True)
class Recipe:
    """What a process needs to run items; small, so that it travels."""

    model: str
    files: Mapping[str, Path]
    """Where the files lie that options name."""
    frames: Path
    """Folder for pictures."""
    settings: StudySettings

    @classmethod
    def of(cls, settings: StudySettings, out: Path) -> "Recipe":
        """Return the recipe of a study that is kept in `out`. Raises: SettingsError for files that are not there."""
        logs = (settings.training_log,) if settings.training_log else ()
        files = {file: settings.path(file) for file in (*settings.adapters, *logs)}
        return cls(settings.model, files, out / "frames", settings)

    def context(self) -> actions.Context:
        """Load the study's models, and return what its items need of them."""
        backbone, told = load_backbone(self.model), self.settings
        if told.footage is None:
            return actions.Context(backbone, load_clip("mini", device=backbone.device), self.files)
        return actions.Context(
            backbone,
            None,
            self.files,
            filmed=listed(told),
            towers=_towers(told, backbone.device),
            controls=told.controls,
            looking=looking(told),
        )


def _towers(settings: StudySettings, device: torch.device) -> Towers:
    clip, lpips, dino, inception = (
        None if told is None else settings.place(told)
        for told in (settings.clip_model, settings.lpips, settings.dino, settings.inception)
    )
    return Towers(
        clip=None if clip is None else load_clip(str(clip), device=device),
        lpips=None if lpips is None else Lpips.load(lpips, device=device),
        dino=None if dino is None else load_dino(str(dino), device=device),
        inception=None if inception is None else Inception.load(inception, device=device),
    )


def looking(settings: StudySettings) -> MapModels:
    """Return the models that make maps of clips of the user's."""

    def place(told: str | None) -> str | None:
        return None if told is None else str(settings.place(told))

    return MapModels(
        depth_model=place(settings.depth_model),
        pose_model=place(settings.pose_model),
        person_detector=place(settings.person_detector),
    )


def run_item(planned: Planned, context: actions.Context, frames: Path) -> dict[str, Any]:
    """Return one item as a line of the record. Raises: SettingsError where every item would fail the same way."""
    item = planned.item
    line: dict[str, Any] = {
        "key": planned.key,
        "kind": item.condition.kind,
        "options": dict(item.condition.options),
        "clip": item.clip,
        "seed": item.seed,
        "frames": item.frames,
        "steps": item.steps,
        "model": context.backbone.weights_fingerprint,
        "files": dict(planned.files),
    }
    start = time.perf_counter()
    try:
        outcome = actions.KINDS[item.condition.kind](context, item)
        if planned.picture and outcome.picture is not None:
            line["prompt"] = outcome.prompt
            line["picture"] = actions.save_picture(outcome.picture, frames / f"{planned.key}.jpg")
        line["maps"] = {
            label: actions.save_picture(row, frames / f"{planned.key}-{number}.jpg")
            for number, (label, row) in enumerate(outcome.maps.items())
        }
        line["series"] = {
            name: [round(value, 6) for value in values] for name, values in outcome.series.items()
        }
        line["figures"] = dict(outcome.figures)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - one clip must not end a night's run; it is counted as failed
        line["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        line["where"] = traceback.format_exc().splitlines()[-3].strip()
    line = {name: value for name, value in line.items() if value != {}}
    return line | {"seconds": round(time.perf_counter() - start, 3)}
