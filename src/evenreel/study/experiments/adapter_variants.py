"""Experiments on the adapter: when it is at work, what it is made of, and how it was trained."""

from collections.abc import Mapping
from dataclasses import replace

from evenreel.study.experiments.conditions import NO_ADAPTER, SIDE, edit, middle_host
from evenreel.study.items import Condition, Experiment
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


def grid(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 11 and 14 whole: adapters by the noise levels of their training, each used at
    several."""
    about = Experiment(
        name="grid",
        title="Noise levels of the training against those of the use",
        source="GE, Figures 11 and 14",
        question="At which noise levels should an adapter be trained, and at which be used?",
        not_run="no adapters by the noise levels of their training were named in the study's settings (table "
        "[training_windows])",
    )
    if not settings.training_windows:
        return about
    host = middle_host(settings)
    conditions = tuple(
        edit(f"trained {name}, used {window}", host, adapter=file, adapter_window=window)
        for name, file in settings.training_windows.items()
        for window in USED
    )
    return replace(
        about,
        conditions=(edit("no adapter", host), *conditions),
        pairs=tuple((condition.name, "no adapter") for condition in conditions),
        **SIDE,
        not_run="",
    )


def ablation(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 12 and 15: the adapter without its shared tokens, with weightier tokens of
    frames, and without either."""
    host = middle_host(settings)
    told: dict[str, dict[str, object]] = {
        "as it is": {},
        "no shared tokens": {"adapter_parts": "lora,frames"},
        "frame tokens x 2": {"adapter_frame_weight": 2.0},
        "frame tokens x 4": {"adapter_frame_weight": 4.0},
        "no frame tokens": {"adapter_parts": "lora,shared"},
        "no tokens": {"adapter_parts": "lora"},
    }
    conditions = tuple(edit(name, host, adapter=settings.adapter, **more) for name, more in told.items())
    return Experiment(
        name="ablation",
        title="The adapter with some of its prompt tokens, and with weightier ones",
        source="GE, Figures 12 and 15",
        question="What do the shared tokens do, and those of frames, once all are trained?",
        conditions=(edit("no adapter", host), *conditions),
        pairs=tuple((condition.name, "no adapter") for condition in conditions),
        **SIDE,
        caveat="One adapter, of which parts are left out when it is used; `tokens` compares adapters trained without "
        "them.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


USED = ("0.5:1", "0.7:1", "0.9:1")
"""Noise levels of the use, in the grid."""
PARTS = {"LoRA": "lora", "tokens": "tokens", "both": "lora,tokens"}
"""Of an adapter, what is at work besides the inversion, by name."""


def parts(settings: StudySettings, motion: str = "off") -> Experiment:
    """Return the experiment of the GE-Adapter's three parts: LoRA, tokens and bilateral inversion, each alone and
    together, on every host; with motion modules or without them."""
    conditions: list[Condition] = []
    pairs: list[tuple[str, str]] = []
    for host in settings.hosts:
        plain = edit(f"{host}, none", host, inversion="ddim", motion=motion)
        conditions.append(plain)
        for inversion, filtered in (("ddim", ""), ("bilateral", "inversion")):
            for name, told in ({"": None} | PARTS).items():
                label = " + ".join(filter(None, (name if name != "both" else "LoRA + tokens", filtered)))
                if not label:
                    continue
                options = {"adapter": settings.adapter, "adapter_parts": told} if told else {}
                one = edit(f"{host}, {label}", host, inversion=inversion, motion=motion, **options)
                conditions.append(one)
                pairs.append((one.name, plain.name))
    with_modules = motion != "off"
    return Experiment(
        name="parts_motion" if with_modules else "parts",
        title="The three parts of the GE-Adapter, "
        + ("with" if with_modules else "without")
        + " motion modules",
        source="GE, sections 3.2 to 3.4",
        question="What do LoRA, tokens and bilateral inversion do, each alone and together, on every host?",
        conditions=tuple(conditions),
        pairs=tuple(pairs),
        figures=("asked", "kept", "truth_psnr", "warp_error", "sharpness_ratio", "clip_t", "clip_f"),
        tested=("truth_psnr", "warp_error"),
        seeds=1,
        caveat="LoRA and tokens are at the scale and in the window that the adapter's file names.",
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
