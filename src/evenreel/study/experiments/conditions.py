"""What experiments are written with."""

from typing import Any, Final, TypedDict

from evenreel.settings import EditSettings
from evenreel.study.items import Condition
from evenreel.study.settings import StudySettings

NO_ADAPTER = "no adapter file was named in the study's settings (adapter = FILE)"
OTHER_WORLD = (
    "The paper measured other videos, metrics and models: its figures stand here for their direction only. Its FID "
    "rests on Inception and its LPIPS on AlexNet, whose weights are not part of this study; Frechet and kernel "
    "distances here are of the source's frames and the edit's on mini's CLIP."
)
PAPER_FIGURES = (
    "asked",
    "kept",
    "truth_psnr",
    "truth_ssim",
    "warp_error",
    "flicker",
    "clip_t",
    "clip_f",
    "clip_dir",
    "frechet_clip",
    "kid_clip",
)
"""Of the papers' tables: their columns as far as they can be had, and what can be trusted."""
SEEN_FIGURES = (
    "object_motion_iou",
    "object_warp_error",
    "ring_warp_error",
    "rest_warp_error",
    "sharpness_ratio",
    "saturation_ratio",
)
"""What an eye sees first: an outline that changes, where it flickers, and whether blur or grey paid for less of it."""
PAPER_TESTED = ("asked", "kept", "truth_psnr", "warp_error", "clip_t", "kid_clip")
SEEDLESS = frozenset({"frame", "text2video_zero"})
"""Hosts that draw nothing at random in an edit, whatever the inversion does; tested."""


class _Side(TypedDict):
    share: float
    seeds: int


SIDE: Final[_Side] = {"share": 0.6, "seeds": 1}
"""How much of a study a side experiment is run on."""


def edit(name: str, host: str, **options: Any) -> Condition:
    """Return an edit; options that say what is so anyway are left out, so that experiments share items."""
    usual = EditSettings(prompt="-").to_json()
    del usual["inversion"]  # the study's own, which its items know
    told = {key: value for key, value in options.items() if value not in (usual.get(key), None)}
    return Condition(name, "edit", {"host": host, **told}, seedless=host in SEEDLESS)


def middle_host(settings: StudySettings) -> str:
    """Return the host of experiments that are run on one."""
    return "vidtome" if "vidtome" in settings.hosts else settings.hosts[0]
