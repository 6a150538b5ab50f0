"""Experiments on the adapter: when it is at work, what it is made of, and how it was trained."""

from collections.abc import Mapping
from dataclasses import replace

from evenreel.study.experiments.conditions import NO_ADAPTER, SIDE, edit, middle_host
from evenreel.study.items import Experiment
from evenreel.study.settings import StudySettings


def windows(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 11 and 14: at which noise levels the adapter is at work, and how much of
    it."""
    host = middle_host(settings)
    told = [("0.9:1", 0.5), ("0.9:1", 1.0), ("0.5:1", 0.5), ("0.5:1", 1.0), ("0:1", 1.0)]
    conditions = tuple(
        edit(
            f"{window} x {scale:g}",
            host,
            adapter=settings.adapter,
            adapter_window=window,
            adapter_scale=scale,
        )
        for window, scale in told
    )
    return Experiment(
        name="windows",
        title="When the adapter is at work",
        source="GE, Figures 11 and 14",
        question="At which noise levels, and how strongly, should the adapter be used?",
        conditions=(edit("no adapter", host), *conditions),
        pairs=tuple((condition.name, "no adapter") for condition in conditions),
        **SIDE,
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def tokens(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 12, 13 and 15: adapters with other prompt tokens."""
    about = Experiment(
        name="tokens",
        title="Prompt tokens: strategies and their number",
        source="GE, Figures 12, 13 and 15",
        question="Do shared tokens, and tokens of frames, help; and how many?",
        not_run="no adapters trained with other tokens were named in the study's settings (table [tokens])",
    )
    return _files(settings, settings.tokens, about)


def trainings(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 11 and 14, and of the temporal losses: adapters trained in other ways."""
    about = Experiment(
        name="trainings",
        title="Trainings: temporal loss, layers and noise levels",
        source="GE, Figures 11 and 14; Eq. 4 and 19",
        question="Which temporal loss, on which layers and noise levels, makes the best adapter?",
        not_run="no adapters trained in other ways were named in the study's settings (table [trainings])",
    )
    return _files(settings, settings.trainings, about)


def _files(settings: StudySettings, files: Mapping[str, str], about: Experiment) -> Experiment:
    """Adapter files, each compared with none; what `about` says where there are none."""
    if not files:
        return about
    host = middle_host(settings)
    with_files = [edit(name, host, adapter=file) for name, file in files.items()]
    return replace(
        about,
        conditions=(edit("no adapter", host), *with_files),
        pairs=tuple((name, "no adapter") for name in files),
        figures=("asked", "kept", "truth_psnr", "warp_error", "flicker", "clip_t", "clip_f"),
        **SIDE,
        not_run="",
    )
