"""An edit, or a clip made from text, run again from its record."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.base import known_as
from evenreel.backbones.clip import load_clip
from evenreel.backbones.control import is_control
from evenreel.errors import ClipError, SettingsError, WeightsError
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.video import probe
from evenreel.workflows.editing import record
from evenreel.workflows.editing.adapter_use import clip_of
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.generate import generate_file
from evenreel.workflows.editing.motion_use import OFF, folder_of
from evenreel.workflows.editing.record import FileResult
from evenreel.workflows.editing.run_setup import model_options


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
    from_text, motion = values.get("command") == "generate", values.get("motion")
    controls = values.get("control") or []
    controls = [controls] if isinstance(controls, dict) else controls  # records of before hold a single one
    try:
        clips = [] if from_text else [values["source"]]
        clips.extend(control["clip"] for control in controls if control["clip"] is not None)
        sources = [(Path(clip["path"]), clip["sha256"]) for clip in clips]
        control_fingerprints = [str(control["fingerprint"]) for control in controls]
        motion_fingerprint = None if motion is None else motion["fingerprint"]
        written, fingerprint = Path(values["output"]["path"]), values["model"]["fingerprint"]
        threads = int(values["machine"]["threads"])
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} is damaged: {error} is missing or wrong; give another record."
        ) from error
    settings = _settings(values["settings"], from_text=from_text)
    for source, digest in sources:
        _check_same(source, digest)
    backbone = load_backbone(
        settings.model, device=settings.device, dtype=settings.dtype, **model_options(settings)
    )
    # earlier records hold the hash of the weights alone
    if fingerprint not in (backbone.fingerprint, getattr(backbone, "weights_fingerprint", None)):
        raise WeightsError(
            f"the model {settings.model} is no longer the one that was used; restore it, or start a new run."
        )
    _check_controls(settings, backbone, control_fingerprints)
    for kind, parts in (("LoRA", values.get("loras")), ("embedding", values.get("embeddings"))):
        for part in parts or ():
            _check_file(kind, part)
    if (adapter := values.get("adapter")) is not None:
        _check_file("adapter", adapter)
        clip = adapter.get("vision")
        if clip and clip not in known_as(load_clip(clip_of(settings, adapter), device=backbone.device)):
            raise WeightsError(
                "the CLIP of the adapter is no longer the one that was used; restore it, or start a new run."
            )
    if motion is not None and folder_of(settings.motion).fingerprint != motion_fingerprint:
        raise WeightsError(
            f"the motion modules {settings.motion} are no longer those that were used; restore them, or start a new "
            "run."
        )
    target = (
        Path(output) if output is not None else written.with_name(f"{written.stem}-repeated{written.suffix}")
    )
    with _threads(threads):
        if isinstance(settings, GenerateSettings):
            return generate_file(target, settings, progress=progress, backbone=backbone)
        return edit_file(sources[0][0], target, settings, progress=progress, backbone=backbone)


def _settings(values: dict[str, Any], *, from_text: bool) -> EditSettings | GenerateSettings:
    values = {"motion": OFF, **values}  # records that name no motion modules were made when there were none
    if from_text:
        return GenerateSettings.from_json(values)
    # Records that name no inversion were made when there was but one.
    return EditSettings.from_json({"inversion": "ddim", **values})


def _check_controls(
    settings: EditSettings | GenerateSettings, backbone: Backbone, fingerprints: list[str]
) -> None:
    """Raise WeightsError unless the ControlNets that settings name are those that a record speaks of."""
    uses = settings.control or ()
    if len(uses) != len(fingerprints):
        raise SettingsError(
            f"the record is damaged: its settings name {len(uses)} ControlNets, and {len(fingerprints)} are described; "
            "give another."
        )
    for use, fingerprint in zip(uses, fingerprints, strict=True):
        if not is_control(use.model, backbone, fingerprint):
            raise WeightsError(
                f"the ControlNet {use.model} is no longer the one that was used; restore it, or start a new run."
            )


def _check_file(kind: str, recorded: Any) -> None:
    """Raise WeightsError unless a file of weights is the one that a record speaks of."""
    try:
        path, digest = Path(recorded["path"]), recorded["sha256"]
    except (KeyError, TypeError) as error:
        raise SettingsError(
            f"the record is damaged: what it says of the {kind} is wrong; give another."
        ) from error
    if not path.is_file() or record.hash_of((path,)) != digest:
        raise WeightsError(
            f"the {kind} {path} is no longer the one that was used; restore it, or start a new run."
        )


def _check_same(source: Path, digest: str) -> None:
    info = probe(source)
    if record.hash_of(info.images or (info.path,)) != digest:
        raise ClipError(f"{source} is no longer the clip that was used; restore it, or start a new run.")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sums are split between threads, so another number of them gives other last digits, and then other frames."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
