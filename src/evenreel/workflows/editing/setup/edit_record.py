"""The record of an edit: beside what every run has, its source, inversion, region and frames."""

from collections.abc import Sequence
from typing import Any

from evenreel.settings import EditSettings
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records import record
from evenreel.workflows.editing.regions.mask_models import described_models
from evenreel.workflows.editing.regions.region import MaskClip, Region
from evenreel.workflows.editing.regions.removed import margin_of
from evenreel.workflows.editing.setup.run_setup import recorded


def edit_record(
    pipeline: Pipeline,
    source: dict[str, Any],
    working: tuple[int, int],
    written: int,
    region: Region | None,
    regions: Sequence[MaskClip],
) -> dict[str, Any]:
    """Describe an edit, with the source and its size, the size that the model worked at, and how many frames were
    written."""
    settings = pipeline.settings
    return {
        **recorded(pipeline, working),
        "command": "edit",
        "source": source,
        "inversion": {"name": settings.inversion, "settings": record.plain(pipeline.inversion)},
        "kept": None if region is None else _kept(region, settings, (source["width"], source["height"])),
        "another_shape": region is not None and pipeline.reshapes(region),
        "mask": None if region is None or region.mask is None else region.mask.described,
        "mask_models": described_models(settings.mask_models),
        **described_regions(regions),
        "frames": {"first": settings.frames[0], "written": written},
        "cuts": [settings.frames[0] + cut for cut in pipeline.cuts],
    }


def described_regions(regions: Sequence[MaskClip]) -> dict[str, Any]:
    """Describe the masks of regions with prompts of their own, where there are some."""
    return {"regions": [region.described for region in regions]} if regions else {}


def _kept(region: Region, settings: EditSettings, size: tuple[int, int]) -> dict[str, Any]:
    """Describe what stays; around what is removed the edge is not soft, and has another width."""
    described = region.described(size)
    return {**described, "feather": margin_of(*size)} if settings.remove else described
