"""Experiments on the bilateral inversion: the papers' tables, and other forms of its filter."""

from typing import Any

from evenreel.study.experiments.conditions import (
    OTHER_WORLD,
    PAPER_FIGURES,
    PAPER_TESTED,
    SIDE,
    edit,
    middle_host,
)
from evenreel.study.items import Condition, Experiment
from evenreel.study.settings import StudySettings

_PUBLISHED = {
    "mode": "latent",
    "kernel": 5,
    "sigma_spatial": 1.0,
    "sigma_intensity": 1.0,
    "edge": "reflect",
    "start": 0.0,
    "end": 1.0,
    "eta": 0.0,
}
"""Every setting of the published filter, whatever the defaults are."""
FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "sigma 0.2": {"sigma_intensity": 0.2},
    "clean steps": {"end": 0.1},
    "noisy half": {"start": 0.5},
    "predicted clean": {"mode": "clean"},
    "predicted clean, noisy half": {"mode": "clean", "start": 0.5},
    "predicted clean, sigma 0.2, noisy half": {"mode": "clean", "sigma_intensity": 0.2, "start": 0.5},
    "features": {"mode": "feature-time"},
}
"""Forms of the filter, by what they change of the published one."""
FEW = (3, 5)
"""Steps."""


def bilateral(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Table 2: the bilateral filter in the inversion, on and off, on every host."""
    return Experiment(
        name="table2",
        title="Bilateral inversion on every host",
        source="GE, Table 2",
        question="Does filtering what is inverted make edits more consistent?",
        conditions=tuple(
            condition
            for host in settings.hosts
            for condition in (
                edit(f"{host} ddim", host, inversion="ddim"),
                edit(f"{host} bilateral", host, inversion="bilateral"),
            )
        ),
        pairs=tuple((f"{host} bilateral", f"{host} ddim") for host in settings.hosts),
        figures=PAPER_FIGURES,
        tested=PAPER_TESTED,
        seeds=1,
        share=0.7,
        treatment="bilateral",
        beside=(("FID", "frechet_clip"), ("CLIP", "clip_t")),
        paper=(
            ("host", "FID with / without", "CLIP with / without", "LPIPS with / without"),
            ("TokenFlow", "122.52 / 135.66", "29.35 / 29.17", ".136 / .142"),
            ("Vid2Vid-Zero", "320.80 / 387.76", "25.84 / 20.08", ".166 / .210"),
            ("VidToMe", "143.72 / 357.25", "28.12 / 25.00", ".114 / .126"),
            ("Text2Video-Zero", "-", "30.07 / 29.10", ".244 / .347"),
        ),
        caveat=OTHER_WORLD + " VidToMe without the filter has FID 357 here and 146 in its Table 1.",
    )


def inversion_steps(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 5 and 7: few steps, and the filter's kernel."""
    host = middle_host(settings)
    few = (3, 5, 10)
    kernels = (3, 5, 7)
    plain = tuple(edit(f"ddim, {steps} steps", host, inversion="ddim", steps=steps) for steps in few)
    filtered = tuple(
        edit(
            f"bilateral {kernel}, {steps} steps",
            host,
            inversion="bilateral",
            steps=steps,
            inversion_options={"kernel": kernel},
        )
        for steps in few
        for kernel in kernels
    )
    return Experiment(
        name="fig5",
        title="Bilateral inversion at few steps, and the size of its kernel",
        source="GE, Figures 5 and 7",
        question="Is the filter of use where steps are few?",
        conditions=(*plain, *filtered),
        pairs=tuple((f"bilateral 5, {steps} steps", f"ddim, {steps} steps") for steps in few),
        **SIDE,
    )


def forms(settings: StudySettings) -> Experiment:
    """Return the experiment of other forms of the filter, at few steps, where the paper sees its gains; without motion
    modules, as it has none."""
    host = middle_host(settings)

    def condition(form: str, steps: int, **options: Any) -> Condition:
        return edit(f"{form}, {steps} steps", host, motion="off", steps=steps, **options)

    conditions: list[Condition] = []
    pairs: list[tuple[str, str]] = []
    for steps in FEW:
        plain = condition("ddim", steps, inversion="ddim")
        filtered = [
            condition(form, steps, inversion="bilateral", inversion_options={**_PUBLISHED, **FORMS[form]})
            for form in FORMS
        ]
        conditions += [plain, *filtered]
        pairs += [(one.name, plain.name) for one in filtered]
    return Experiment(
        name="filters",
        title="Forms of the bilateral filter",
        source="ours, after GE, Table 2 and Figure 5",
        question="Does any form of the filter make edits better than plain DDIM inversion does?",
        conditions=tuple(conditions),
        pairs=tuple(pairs),
        figures=("asked", "kept", "truth_psnr", "object_truth_psnr", "warp_error", "sharpness_ratio"),
        caveat="A blurred clip has less warp error than a sharp one; the sharpness stands beside it.",
        seeds=1,
    )
