"""Experiments that look inside the model and inside trainings."""

from evenreel.study.experiments.conditions import NO_ADAPTER, edit, middle_host
from evenreel.study.items import Condition, Experiment
from evenreel.study.settings import StudySettings

ATTENTION = (981, 541, 1)
"""Timesteps of the paper's maps (GE, Figures 8 and 10); they are steps of a sampling of 50."""
FEATURES = (932, 941)
"""Timesteps of the paper's maps (TH, Figure 3)."""


def _both(settings: StudySettings, kind: str, **options: object) -> tuple[Condition, ...]:
    return (
        Condition("no adapter", kind, options, seedless=kind == "attention"),
        Condition("adapter", kind, {**options, "adapter": settings.adapter}, seedless=kind == "attention"),
    )


def attention(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 8 and 10: where frames attend to the changed words."""
    return Experiment(
        name="maps",
        title="Cross-attention maps",
        source="GE, Figures 8 and 10",
        question="Does the adapter make neighbouring frames attend to the changed words in the same places?",
        conditions=_both(settings, "attention", host="frame", steps=50, timesteps=list(ATTENTION)),
        figures=tuple(f"map_change_{timestep}" for timestep in ATTENTION),
        tested=(),
        share=0.0,
        seeds=1,
        caveat="Per-frame editing, so that nothing but the adapter joins the frames. Mean over heads and layers, "
        "black to white over all frames of a row. Where a timestep lies outside the adapter's window, it acts through "
        "earlier steps only.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def attention_by_layer(settings: StudySettings) -> Experiment:
    """Return the experiment of GE Figures 8 and 10 layer by layer, on several clips."""
    told = {"host": "frame", "steps": 50, "timesteps": list(ATTENTION), "by_layer": True}
    return Experiment(
        name="maps_layers",
        title="Cross-attention maps, layer by layer",
        source="GE, Figures 8 and 10",
        question="In which layers do neighbouring frames attend to the changed words in the same places?",
        conditions=_both(settings, "attention", **told),
        pairs=(("adapter", "no adapter"),),
        figures=tuple(f"map_change_{timestep}" for timestep in ATTENTION),
        tested=tuple(f"map_change_{timestep}" for timestep in ATTENTION),
        share=0.3,
        seeds=1,
        caveat="Mean over heads; a row of maps for each timestep and layer, from the first of the way down to the "
        "last of the way up. Figures are means over layers.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def features(settings: StudySettings) -> Experiment:
    """Return the experiment of TH Figure 3: feature maps of two adjacent frames."""
    return Experiment(
        name="features",
        title="Feature maps of two adjacent frames",
        source="TH, Figure 3",
        question="Does the adapter make the features of adjacent frames more alike at high noise?",
        conditions=_both(settings, "features", timesteps=list(FEATURES)),
        figures=tuple(f"map_change_{timestep}" for timestep in FEATURES),
        tested=(),
        share=0.0,
        seeds=1,
        caveat="What the decoder's attentions to the prompt give (layers 4 to 11, left to right), mean over channels; "
        "both frames of the source carry the same noise.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def similarity(settings: StudySettings) -> Experiment:
    """Return the experiment of TH Figure 4, left: likeness of neighbouring frames' latents while they are sampled."""
    host = middle_host(settings)
    return Experiment(
        name="similarity",
        title="Likeness of neighbouring frames at each step",
        source="TH, Figure 4, left",
        question="How alike are neighbouring frames' latents at each sampling step, with the adapter and without?",
        conditions=(edit("no adapter", host), edit("adapter", host, adapter=settings.adapter)),
        pairs=(("adapter", "no adapter"),),
        figures=("similarity", "warp_error"),
        tested=("similarity",),
        caveat="A frozen clip has likeness 1: more is not better by itself.",
        not_run="" if settings.adapter else NO_ADAPTER,
    )


def training(settings: StudySettings) -> Experiment:
    """Return the experiment of TH Figure 4, right: how the frames' likeness varies over a training."""
    return Experiment(
        name="training",
        title="Variation of inter-frame similarity over training",
        source="TH, Figure 4, right",
        question="Does training reduce how much the similarity of frames varies?",
        conditions=(Condition("training", "training", {"log": settings.training_log}, seedless=True),),
        figures=("temporal_first", "temporal_last"),
        tested=(),
        share=0.0,
        seeds=1,
        caveat="The temporal loss that was trained with; of noise, the squared difference of similarities.",
        not_run=""
        if settings.training_log
        else "no log of a training was named in the study's settings (training_log)",
    )
