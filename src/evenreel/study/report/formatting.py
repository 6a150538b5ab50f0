"""How figures are shown: metrics say it themselves, and so do the figures that only a study has."""

from dataclasses import dataclass

from evenreel.metrics.base import Metric, registered
from evenreel.study.experiments.conditions import SEEN_FIGURES

WAYS = {"higher": "more", "lower": "less", "one": "neither"}
SAY_LITTLE = ("source_psnr", "frechet_inception", "kid_inception", "frechet_clip", "kid_clip")
"""Metrics whose better end an edit that changes nothing reaches: in an experiment neither end is better."""


@dataclass(frozen=True)
class FigureText:
    """How a figure is shown."""

    label: str
    scale: int | float
    better: str
    """`more`, `less`, or `neither` where more is not better by itself."""


ORDER = (
    "asked",
    "kept",
    "truth_psnr",
    "truth_ssim",
    "object_truth_psnr",
    "ring_truth_psnr",
    "rest_truth_psnr",
    "foreground_truth_psnr",
    "background_psnr",
    "background_ssim",
    "source_psnr",
    "warp_error",
    *SEEN_FIGURES,
)
"""The metrics that tables of a study show first, in this order; others follow in that of `evenreel metrics`."""
OF_A_STUDY = {
    "similarity": FigureText("likeness of neighbouring latents", 1, "neither"),
    "map_change_981": FigureText("change of the map at t = 981, %", 100, "less"),
    "map_change_541": FigureText("change of the map at t = 541, %", 100, "less"),
    "map_change_1": FigureText("change of the map at t = 1, %", 100, "less"),
    "map_change_932": FigureText("change of the maps at t = 932, %", 100, "less"),
    "map_change_941": FigureText("change of the maps at t = 941, %", 100, "less"),
    "temporal_first": FigureText("temporal loss, first tenth", 1, "less"),
    "temporal_last": FigureText("temporal loss, last tenth", 1, "less"),
}
"""Figures that are not metrics of a pair of clips."""


def _of_metric(name: str, kind: type[Metric]) -> FigureText:
    # Lines of a study hold shares where a metric's unit is per cent.
    percent = kind.unit == "%"
    unit = (
        "1 is right"
        if kind.better == "one"
        else kind.unit or (f"{kind.shown_in:.0e}" if kind.shown_in != 1 else "")
    )
    return FigureText(
        ", ".join(part for part in (kind.label or name, unit.replace("e-0", "e-")) if part),
        100 if percent else round(1 / kind.shown_in),
        "neither" if name in SAY_LITTLE else WAYS[kind.better],
    )


def _all() -> dict[str, FigureText]:
    metrics = {name: kind for name, kind in registered().items() if isinstance(kind, type)}
    names = [*(name for name in ORDER if name in metrics), *(name for name in metrics if name not in ORDER)]
    return {**{name: _of_metric(name, metrics[name]) for name in names}, **OF_A_STUDY}


FIGURES = _all()
"""By name, in the order in which tables show them."""
