"""An edit run again from its record."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evenreel.backbones import load_backbone
from evenreel.errors import ClipError, SettingsError, WeightsError
from evenreel.settings import EditSettings
from evenreel.video import probe
from evenreel.workflows import record
from evenreel.workflows.edit import EditResult, edit_file
from evenreel.workflows.progress import Progress, silent


def repeat_edit(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    progress: Progress = silent,
) -> EditResult:
    """Run the edit that a record describes, on the same source and the same weights.

    `output` defaults to the recorded name with "-repeated" added. Raises ClipError and WeightsError where source or
    weights have changed, and any EvenreelError that an edit raises.
    """
    values = record.read_record(Path(path))
    try:
        source, digest = Path(values["source"]["path"]), values["source"]["sha256"]
        written, fingerprint = Path(values["output"]["path"]), values["model"]["fingerprint"]
        threads = int(values["machine"]["threads"])
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} is damaged: {error} is missing or wrong; give another record."
        ) from error
    # Records that name no inversion were made when there was but one.
    settings = EditSettings.from_json({"inversion": "ddim", **values["settings"]})
    info = probe(source)
    if record.hash_of(info.images or (info.path,)) != digest:
        raise ClipError(
            f"{source} is no longer the clip that was edited; restore it, or use `evenreel edit`."
        )
    backbone = load_backbone(settings.model, device=settings.device, dtype=settings.dtype)
    if backbone.fingerprint != fingerprint:
        raise WeightsError(
            f"the model {settings.model} is no longer the one that was used; restore it, or use `evenreel edit`."
        )
    target = (
        Path(output) if output is not None else written.with_name(f"{written.stem}-repeated{written.suffix}")
    )
    with _threads(threads):
        return edit_file(source, target, settings, progress=progress, backbone=backbone)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sums are split between threads, so another number of them gives other last digits, and then other frames."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
