"""The experiments, as data: the papers' tables and figures, and controls that keep the metrics honest.

GE: He et al. 2025 (arXiv:2501.04606). TH: Song et al. 2025.
"""

from collections.abc import Iterator

from evenreel.study.experiments import adapter_variants, filters, internals
from evenreel.study.experiments.conditions import (
    NO_ADAPTER,
    OTHER_WORLD,
    PAPER_FIGURES,
    PAPER_TESTED,
    SEEN_FIGURES,
    SIDE,
    edit,
    middle_host,
)
from evenreel.study.experiments.filmed import filmed
from evenreel.study.items import CONTROLS, Condition, Experiment
from evenreel.study.settings import StudySettings


def experiments(settings: StudySettings) -> tuple[Experiment, ...]:
    """Return all experiments of a study, or those that it names, in the order of the report."""
    every = tuple(_all(settings))
    if settings.footage is not None:
        every = tuple(filmed(one, settings) for one in every)
    if not settings.experiments:
        return every
    return tuple(experiment for experiment in every if experiment.name in settings.experiments)


def names() -> tuple[str, ...]:
    """Return the names of the experiments that there are."""
    return tuple(experiment.name for experiment in _all(StudySettings()))


def _all(settings: StudySettings) -> Iterator[Experiment]:
    yield controls()
    yield hosts(settings)
    yield adapter(settings)
    yield from_text(settings)
    yield guidance(settings)
    yield injection(settings)
    yield inversions(settings)
    yield filters.bilateral(settings)
    yield filters.inversion_steps(settings)
    yield filters.forms(settings)
    yield adapter_variants.parts(settings)
    yield adapter_variants.parts(settings, motion="auto")
    yield adapter_variants.windows(settings)
    yield adapter_variants.grid(settings)
    yield adapter_variants.ablation(settings)
    yield adapter_variants.tokens(settings)
    yield adapter_variants.trainings(settings)
    yield internals.attention(settings)
    yield internals.attention_by_layer(settings)
    yield internals.features(settings)
    yield internals.similarity(settings)
    yield internals.training(settings)
    yield controlled(settings)
    yield raters()


def controls() -> Experiment:
    """Return the experiment of degenerate results, scored like edits."""
    wrong = {"host": "frame", "prompt": "a plain grey wall"}
    return Experiment(
        name="controls",
        title="What the metrics say of results that are none",
        source="evaluation protocol",
        question="Which figures can be won without editing anything?",
        conditions=(
            *(Condition(what, "control", {"what": what}, seedless=what != "shuffled") for what in CONTROLS),
            edit("wrong prompt", **wrong),
            edit("frame", "frame"),
            Condition("frame, blurred by a pixel", "softened", {"host": "frame"}, seedless=True),
        ),
        caveat="A frozen or blurred clip wins smoothness, the source itself wins preservation: neither is an edit. "
        "The object's IoU along its motion tells a frozen clip, sharpness a blurred one; the plain edit stands beside.",
        figures=(
            "asked",
            "kept",
            "truth_psnr",
            "truth_ssim",
            "warp_error",
            "flicker",
            *SEEN_FIGURES,
            "clip_t",
            "clip_f",
            "s_edit",
            "q_edit",
        ),
        seeds=1,
    )


def hosts(settings: StudySettings) -> Experiment:
    """Return all hosts, without the adapter."""
    return Experiment(
        name="hosts",
        title="Hosts against editing every frame by itself",
        source="ours",
        question="Which hosts are more consistent than per-frame editing at equal edit success?",
        conditions=tuple(edit(host, host) for host in settings.hosts),
        pairs=tuple(
            (host, "frame") for host in settings.hosts if host != "frame" and "frame" in settings.hosts
        ),
        figures=(
            "asked",
            "kept",
            "truth_psnr",
            "object_truth_psnr",
            "ring_truth_psnr",
            "rest_truth_psnr",
            "foreground_truth_psnr",
            "background_psnr",
            "warp_error",
            "warp_ssim",
            "flicker",
            *SEEN_FIGURES,
            "clip_t",
            "clip_f",
        ),
        tested=("asked", "kept", "truth_psnr", "warp_error", "object_motion_iou"),
    )


def adapter(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Table 1: every host with the adapter and without."""
    with_adapter = {"adapter": settings.adapter}
    return Experiment(
        name="table1",
        title="Every host with the adapter and without",
        source="GE, Table 1",
        question="Does the adapter make edits more consistent and nearer to the truth, on every host?",
        conditions=tuple(
            condition
            for host in settings.hosts
            for condition in (edit(host, host), edit(f"{host} + adapter", host, **with_adapter))
        ),
        pairs=tuple((f"{host} + adapter", host) for host in settings.hosts),
        figures=(*PAPER_FIGURES, *SEEN_FIGURES),
        tested=PAPER_TESTED,
        treatment="adapter",
        beside=(("CLIP", "clip_t"), ("FID", "frechet_clip")),
        paper=(
            ("host", "LPIPS with / without", "CLIP with / without", "FID with / without"),
            ("Text2Video-Zero", ".319 / .402", "31.38 / 28.82", "-"),
            ("TokenFlow", ".129 / .135", "29.15 / 28.90", "143.21 / 166.72"),
            ("Vid2Vid-Zero", ".253 / .303", "32.78 / 31.94", "154.30 / 149.40"),
            ("VidToMe", ".122 / .123", "29.94 / 29.93", "143.33 / 146.27"),
        ),
        caveat=OTHER_WORLD + " Its adapter learnt from noise in clips and has prompt tokens; that of the "
        "recorded study learnt from edits and has none. "
        "Its FID for Vid2Vid-Zero is worse with the adapter than without.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def from_text(settings: StudySettings) -> Experiment:
    """Return the first row of GE Table 1 as printed: Text2Video-Zero makes clips from text, with the adapter and
    without."""
    plain, adapted = "Text2Video-Zero", "Text2Video-Zero + adapter"
    told = {"host": "text2video_zero"}
    return Experiment(
        name="table1_text",
        title="Clips from text, with the adapter and without",
        source="GE, Table 1, first row",
        question="Does the adapter make clips from text more consistent?",
        conditions=(
            Condition(plain, "drawn", told),
            Condition(adapted, "drawn", {**told, "adapter": settings.adapter}),
        ),
        pairs=((adapted, plain),),
        figures=("kept", "warp_error", "flicker", "clip_t", "clip_f", "frechet_clip", "kid_clip"),
        tested=("kept", "clip_t", "clip_f", "kid_clip"),
        paper=(
            ("host", "LPIPS with / without", "CLIP with / without"),
            ("Text2Video-Zero", ".319 / .402", "31.38 / 28.82"),
        ),
        caveat=OTHER_WORLD
        + " There is no source: figures that compare with one are of the scene, or the clip, whose "
        "caption is the prompt. `rest kept` is the share of the caption's attributes that are seen.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def guidance(settings: StudySettings) -> Experiment:
    """Edit strength against preservation, swept over the guidance scale."""
    scales = (1.5, 2.5, 5.0, 7.5)
    swept = [host for host in ("frame", "vidtome") if host in settings.hosts]
    return Experiment(
        name="guidance",
        title="Edit success against preservation over the guidance scale",
        source="evaluation protocol",
        question="Is one host better at equal preservation, or only set otherwise?",
        conditions=tuple(
            edit(f"{host} {scale:g}", host, guidance_scale=scale) for host in swept for scale in scales
        ),
        figures=("asked", "kept", "truth_psnr", "warp_error", "clip_t"),
        **SIDE,
    )


def injection(settings: StudySettings) -> Experiment:
    """Edit strength against preservation, swept over how long source features are injected."""
    shares = ((0.0, 0.0), (0.2, 0.3), (0.5, 0.8))
    swept = [host for host in ("frame", "vidtome") if host in settings.hosts]
    return Experiment(
        name="injection",
        title="Edit success against preservation over plug-and-play injection",
        source="evaluation protocol",
        question="How much of the source must be injected for an edit to stay in its place?",
        conditions=tuple(
            edit(f"{host} {attn:g}/{conv:g}", host, host_options={"pnp_attn": attn, "pnp_conv": conv})
            for host in swept
            for attn, conv in shares
        ),
        figures=("asked", "kept", "truth_psnr", "warp_error", "clip_t"),
        **SIDE,
    )


def inversions(settings: StudySettings) -> Experiment:
    """Return the inversions under one host."""
    host = middle_host(settings)
    kinds = ("ddim", "fixed-point", "ddpm", "null-text")
    return Experiment(
        name="inversions",
        title=f"Inversions under {host}",
        source="ours",
        question="Does a better reconstruction make a better edit?",
        conditions=tuple(edit(kind, host, inversion=kind) for kind in kinds),
        pairs=tuple((kind, "ddim") for kind in kinds[1:]),
        **SIDE,
    )


def controlled(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Table 3: clips made from text under ControlNets, with the adapter and without."""
    hosts = {"Text2Video-Zero": "text2video_zero", "frames": "frame"}
    conditions: list[Condition] = []
    pairs: list[tuple[str, str]] = []
    for name, host in hosts.items():
        for kind in (None, "canny", "pose", "depth"):
            row = f"{name}, {kind or 'no control'}"
            told = {"host": host, **({"control": kind} if kind else {})}
            conditions.append(Condition(row, "drawn", told))
            if settings.adapter and kind:
                conditions.append(
                    Condition(f"{row} + adapter", "drawn", {**told, "adapter": settings.adapter})
                )
                pairs.append((f"{row} + adapter", row))
    return Experiment(
        name="table3",
        title="ControlNet conditions with the adapter and without",
        source="GE, Table 3",
        question="Does the adapter help under canny, pose and depth conditions?",
        conditions=tuple(conditions),
        pairs=tuple(pairs),
        figures=(
            *("kept", "truth_psnr", "object_motion_iou", "warp_error", "flicker"),
            *("clip_t", "clip_f", "frechet_clip", "kid_clip"),
        ),
        tested=("kept", "truth_psnr", "warp_error", "clip_t"),
        **SIDE,
        paper=(
            ("condition", "FID without (with)", "CLIP without (with)", "LPIPS without (with)"),
            ("canny", "343.21 (338.78)", "29.15 (31.44)", ".729 (.725)"),
            ("pose", "365.91 (362.83)", "29.49 (33.56)", ".763 (.746)"),
            ("depth", "343.33 (339.10)", "29.89 (31.67)", ".721 (.718)"),
        ),
        caveat=OTHER_WORLD
        + " Clips are made from text: of scenes with a person, whose maps the ControlNet is shown "
        "frame by frame and which stand in the place of source and right answer. `rest kept` is the share of the "
        "caption's attributes that are seen. `frames` is the paper's base, every frame by itself with its own noise.",
        not_run="" if settings.model == "mini" else "the packaged ControlNets are those of mini",
    )


def raters() -> Experiment:
    """Return the comparison by people, which is shown once somebody has rated."""
    return Experiment(
        name="raters",
        title="People's preferences",
        source="GE, section 4.3 (67 raters, 20 pairs for each host)",
        question="Which of two clips do people find more coherent, nearer to the text, and better?",
        not_run="nobody has rated yet",
    )
