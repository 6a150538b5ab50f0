"""Experiments on clips from cameras: those of the world, with what can be had of clips that have no right answer."""

from dataclasses import replace

from evenreel.study.items import Experiment
from evenreel.study.settings import StudySettings

WORLD_ONLY = frozenset(
    {
        *("asked", "kept", "truth_psnr", "truth_ssim", "foreground_truth_psnr"),
        *("object_truth_psnr", "ring_truth_psnr", "rest_truth_psnr", "object_motion_iou"),
        *("object_warp_error", "ring_warp_error", "rest_warp_error"),
    }
)
"""Figures of what only the rendered world tells."""
FIGURES = (
    *(
        "lpips_consecutive",
        "lpips_source",
        "clip_t",
        "clip_f",
        "frechet_inception",
        "kid_inception",
        "frechet_clip",
        "kid_clip",
    ),
    *("warp_error", "source_psnr", "background_psnr"),
)
"""What stands in every table of edits; those whose weights are not named are unavailable."""
TESTED = ("lpips_consecutive", "clip_t", "kid_clip", "warp_error", "source_psnr")
_CAVEAT = (
    "Motion is estimated, and there is no right answer: the source itself wins what measures likeness to it. FID "
    "of so few frames is mostly bias; KID is not."
)


def filmed(experiment: Experiment, settings: StudySettings) -> Experiment:
    """Return an experiment as it is run on clips from cameras."""
    if experiment.name == "table3":
        return _controlled(experiment, settings)
    if not experiment.conditions or experiment.conditions[0].kind not in ("edit", "control"):
        known = tuple(name for name in experiment.figures if name not in WORLD_ONLY)
        return replace(
            experiment, figures=known, tested=tuple(name for name in experiment.tested if name in known)
        )
    kept = tuple(one for one in experiment.conditions if one.options.get("what") != "truth")
    added = [name for name in experiment.figures if name not in WORLD_ONLY and name not in FIGURES]
    only = experiment.name == "similarity"
    return replace(
        experiment,
        conditions=kept,
        figures=experiment.figures if only else (*FIGURES, *added),
        tested=experiment.tested if only else TESTED,
        beside=(*_beside(experiment), ("LPIPS", "lpips_consecutive")) if experiment.beside else (),
        caveat=_CAVEAT,
    )


def _beside(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """The paper's FID beside one on Inception, as it has it."""
    return tuple(
        (column, "frechet_inception" if column == "FID" else figure) for column, figure in experiment.beside
    )


def _controlled(experiment: Experiment, settings: StudySettings) -> Experiment:
    """Table 3 with the user's ControlNets, as far as there are maps for them."""
    if not settings.controls:
        why = "no ControlNets were named in the study's settings (table [controls])"
        return replace(experiment, conditions=(), pairs=(), not_run=why)
    needs = {"depth": settings.depth_model, "pose": settings.pose_model}
    there = {kind for kind in settings.controls if needs.get(kind, True)} | {None}
    conditions = tuple(one for one in experiment.conditions if one.options.get("control") in there)
    names = {one.name for one in conditions}
    return replace(
        experiment,
        conditions=conditions,
        pairs=tuple(pair for pair in experiment.pairs if set(pair) <= names),
        figures=FIGURES,
        tested=TESTED,
        caveat=_CAVEAT
        + " Clips are made from text under the maps of the clip, which stands in the place of source.",
        not_run="",
    )
