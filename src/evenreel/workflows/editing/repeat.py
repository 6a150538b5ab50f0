"""An edit, or a clip made from text, run again from its record."""

import dataclasses
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.backbones.control import is_control
from evenreel.backbones.devices import MIXED, choose_device
from evenreel.errors import ClipError, SettingsError, WeightsError
from evenreel.files import shown
from evenreel.ops.number_types import is_slow
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.video import probe
from evenreel.workflows.editing.additions.adapter import clip_of
from evenreel.workflows.editing.additions.control import map_models
from evenreel.workflows.editing.additions.motion import folder_of
from evenreel.workflows.editing.as_then import settings_of_then
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.generate import generate_file
from evenreel.workflows.editing.records import record
from evenreel.workflows.editing.records.record import FileResult
from evenreel.workflows.editing.regions.mask_models import described_models
from evenreel.workflows.editing.setup.run_setup import model_options

log = logging.getLogger(__name__)


class _Part(BaseModel):
    """Base of what a record says: types are exact, and what is not listed is not read."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class _File(_Part):
    path: str
    sha256: str
    vision: str | None = None
    """Of an adapter, the fingerprint of its CLIP."""


class _Model(_Part):
    fingerprint: str


class _Control(_Model):
    clip: _File | None
    made_by: dict[str, str] | None = None
    """Fingerprints of the models that made its maps, by the names of their settings."""


class _Output(_Part):
    path: str


class _Machine(_Part):
    threads: int


class _Record(_Part):
    """What a record says of how a result was made, beside its settings."""

    command: str | None = None
    source: _File | None = None
    mask: _File | None = None
    mask_models: dict[str, str] | None = None
    """By setting, hashes of models that made masks or followed them."""
    regions: list[_File] | None = None
    """Masks of regions with prompts of their own."""
    control: list[_Control] | _Control | None = None
    motion: _Model | None = None
    output: _Output
    model: _Model
    machine: _Machine
    loras: list[_File] | None = None
    embeddings: list[_File] | None = None
    adapter: _File | None = None

    @property
    def controls(self) -> list[_Control]:
        """All of them; records of before hold a single one."""
        return [self.control] if isinstance(self.control, _Control) else self.control or []


def _told(values: dict[str, Any], path: Path) -> _Record:
    """Read a record. Raises: SettingsError for one that does not say all that is needed."""
    try:
        told = _Record.model_validate(values)
        if Path(told.output.path).name in ("", ".."):
            raise SettingsError(f"{shown(path)} is damaged: output.path is wrong; give another record.")
        if told.source is None and told.command != "generate":
            raise SettingsError(f"{shown(path)} is damaged: source is missing; give another record.")
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise SettingsError(
            f"{shown(path)} is damaged: {place} is missing or wrong; give another record."
        ) from error
    return told


def repeat_edit(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    progress: Progress = silent,
) -> FileResult:
    """Run again what a record describes, an edit or a clip made from text, on the same source and the same weights.

    `output` defaults to the recorded name with "-repeated" added. Raises ClipError and WeightsError where source or
    weights have changed, and any EvenreelError that the run itself raises.
    """
    values = record.read_record(Path(path))
    record.check_repeatable(values, Path(path))
    told = _told(values, Path(path))
    from_text = told.command == "generate"
    clips = [] if told.source is None else [told.source]
    clips.extend([] if told.mask is None else [told.mask])
    clips.extend(told.regions or ())
    clips.extend(control.clip for control in told.controls if control.clip is not None)
    settings = settings_of_then(values, from_text=from_text)
    for clip in clips:
        _check_same(Path(clip.path), clip.sha256)
    if settings.dtype == MIXED and is_slow(torch.bfloat16, choose_device(settings.device)):
        log.warning(
            "bfloat16 is slow here, so the run is repeated in float32: the frames may differ a little."
        )
        settings = dataclasses.replace(settings, dtype="float32")
    backbone = load_backbone(
        settings.model, device=settings.device, dtype=settings.dtype, **model_options(settings)
    )
    # earlier records hold the hash of the weights alone
    if told.model.fingerprint not in (backbone.fingerprint, backbone.weights_fingerprint):
        raise WeightsError(
            f"the model {settings.model} is no longer the one that was used; restore it, or start a new run."
        )
    if isinstance(settings, EditSettings) and (told.mask_models or {}) != described_models(
        settings.mask_models
    ):
        raise WeightsError(
            "the models that made the mask are no longer those that were used; restore them, or start a new run."
        )
    _check_controls(settings, backbone, told.controls)
    for kind, parts in (("LoRA", told.loras), ("embedding", told.embeddings), ("adapter", [told.adapter])):
        for part in parts or ():
            _check_file(kind, part)
    seen = None if told.adapter is None else told.adapter.vision
    if seen and seen not in load_clip(clip_of(settings, values["adapter"]), device=backbone.device).known_as:
        raise WeightsError(
            "the CLIP of the adapter is no longer the one that was used; restore it, or start a new run."
        )
    if told.motion is not None and folder_of(settings.motion).fingerprint != told.motion.fingerprint:
        raise WeightsError(
            f"the motion modules {settings.motion} are no longer those that were used; restore them, or start a new "
            "run."
        )
    written = Path(told.output.path)
    target = (
        Path(output) if output is not None else written.with_name(f"{written.stem}-repeated{written.suffix}")
    )
    with _threads(told.machine.threads):
        if isinstance(settings, GenerateSettings):
            return generate_file(target, settings, progress=progress, backbone=backbone)
        return edit_file(clips[0].path, target, settings, progress=progress, backbone=backbone)


def _check_controls(
    settings: EditSettings | GenerateSettings, backbone: Backbone, told: list[_Control]
) -> None:
    """Raise WeightsError unless the ControlNets that settings name, and what makes their maps, are those that a record
    speaks of."""
    uses = settings.control or ()
    if len(uses) != len(told):
        raise SettingsError(
            f"the record is damaged: its settings name {len(uses)} ControlNets, and {len(told)} are described; "
            "give another."
        )
    models = map_models(settings, backbone.device)
    for use, control in zip(uses, told, strict=True):
        if not is_control(use.model, backbone, control.fingerprint):
            raise WeightsError(
                f"the ControlNet {use.model} is no longer the one that was used; restore it, or start a new run."
            )
        if control.made_by is not None and models.fingerprints(use.kind) != control.made_by:
            raise WeightsError(
                f"what made the {use.kind} maps is no longer the model that was used; restore it, or start a new run."
            )


def _check_file(kind: str, recorded: "_File | None") -> None:
    """Raise WeightsError unless a file of weights is the one that a record speaks of."""
    if recorded is None:
        return
    path = Path(recorded.path)
    if not path.is_file() or record.hash_of((path,)) != recorded.sha256:
        raise WeightsError(
            f"the {kind} {shown(path)} is no longer the one that was used; restore it, or start a new run."
        )


def _check_same(source: Path, digest: str) -> None:
    info = probe(source)
    if record.hash_of(info.images or (info.path,)) != digest:
        raise ClipError(f"{source} is no longer the clip that was used; restore it, or start a new run.")


@contextmanager
def _threads(count: int) -> Generator[None]:
    """Sums are split between threads, so another number of them gives other last digits, and then other frames."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
