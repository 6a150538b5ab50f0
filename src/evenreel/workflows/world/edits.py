"""Edits of the world's clips, whose right answer is known, and everything that can be measured of one."""

import random
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch

from evenreel.backbones import Backbone
from evenreel.backbones.clip import ClipModel
from evenreel.hosts.base import EditJob, Host, Session, create_host, inverting, tells_relative
from evenreel.metrics import (
    appearance,
    attributes,
    clip,
    composite,
    distribution,
    fidelity,
    foreground,
    objects,
    temporal,
)
from evenreel.metrics.answer import ExactAnswer
from evenreel.metrics.base import Metric, measure
from evenreel.metrics.flow import KnownFlow
from evenreel.metrics.judge import Judge
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.ops.edges import blurred
from evenreel.ops.warp import visible_by_depth
from evenreel.progress import silent
from evenreel.settings import EditSettings
from evenreel.types import Frames, Latents
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from evenreel.workflows.editing.additions.motion import MotionInUse, chosen_host
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.world import ATTRIBUTES, HELD_OUT, Rendering, Scene, caption, main_flow, random_scene, render

SIZE = 128

METRICS: Mapping[str, type[Metric]] = {
    "asked": attributes.Asked,
    "kept": attributes.Kept,
    "truth_psnr": fidelity.TruthPsnr,
    "truth_ssim": fidelity.TruthSsim,
    "object_truth_psnr": objects.ObjectTruthPsnr,
    "ring_truth_psnr": objects.RingTruthPsnr,
    "rest_truth_psnr": objects.RestTruthPsnr,
    "foreground_truth_psnr": foreground.ForegroundTruthPsnr,
    "background_psnr": fidelity.BackgroundPsnr,
    "background_ssim": fidelity.BackgroundSsim,
    "source_psnr": fidelity.SourcePsnr,
    "warp_error": temporal.WarpError,
    "warp_ssim": temporal.WarpSsim,
    "foreground_warp_error": foreground.ForegroundWarpError,
    "background_warp_error": foreground.BackgroundWarpError,
    "object_motion_iou": objects.ObjectMotionIou,
    "object_warp_error": objects.ObjectWarpError,
    "ring_warp_error": objects.RingWarpError,
    "rest_warp_error": objects.RestWarpError,
    "sharpness_ratio": appearance.SharpnessRatio,
    "saturation_ratio": appearance.SaturationRatio,
    "flicker": temporal.Flicker,
    "clip_t": clip.ClipText,
    "foreground_clip_t": foreground.ForegroundClipText,
    "clip_f": clip.ClipFrames,
    "clip_dir": clip.ClipDirection,
    "frechet_clip": distribution.FrechetClip,
    "kid_clip": distribution.KidClip,
    "s_edit": composite.SEdit,
    "q_edit": composite.QEdit,
}
"""What `measured` tells, by the names that `evenreel evaluate` uses."""

Watch = Callable[[int, Latents], None]
"""Told the timestep and the noisy clip before each noise prediction of the sampling."""


@dataclass(frozen=True)
class WorldEdit:
    """One clip and one change of it."""

    scene: Scene
    change: dict[str, str]
    """Attribute and what it becomes."""
    length: int = 8
    """Frames."""

    @classmethod
    def held_out(cls, number: int, length: int = 8) -> "WorldEdit":
        """Draw held-out scene `number` with one attribute changed at random; which one goes round with the number."""
        scene = random_scene(HELD_OUT + number, objects=1)
        rng = random.Random(f"evenreel change {scene.seed}")
        name = list(ATTRIBUTES)[number % len(ATTRIBUTES)]
        return cls(scene, {name: _other_value(rng, scene, name)}, length)

    @classmethod
    def drawn(cls, number: int, length: int = 16, most: int = 3) -> "WorldEdit":
        """Draw held-out scene `number` with one to `most` attributes changed at random."""
        scene = random_scene(HELD_OUT + number, objects=1)
        rng = random.Random(f"evenreel changes {scene.seed}")
        names = rng.sample(list(ATTRIBUTES), rng.randint(1, most))
        return cls(scene, {name: _other_value(rng, scene, name) for name in names}, length)

    @classmethod
    def of_a_person(cls, number: int, length: int = 8) -> "WorldEdit":
        """Take held-out scene `number` with a person in the place of its object, and nothing to be changed."""
        return cls(random_scene(HELD_OUT + number, objects=1).edited(shape="figure"), {}, length)

    @property
    def target(self) -> Scene:
        """What the edit should show."""
        return self.scene.edited(**self.change)

    @cached_property
    def source(self) -> Rendering:
        """The clip, with its motion and depth."""
        return render(self.scene, range(self.length), SIZE)

    @cached_property
    def truth(self) -> Rendering:
        """The right answer."""
        return render(self.target, range(self.length), SIZE)

    @cached_property
    def flow(self) -> KnownFlow:
        """The source's exact motion, and where it holds."""
        flow = self.source.flow[:-1]
        return KnownFlow(flow, visible_by_depth(self.source.depth, flow))

    @cached_property
    def answer(self) -> ExactAnswer:
        """What is exactly known of the right answer besides its frames."""
        flow = self.truth.flow[:-1]
        return ExactAnswer(
            self.truth.masks[:, -1:],
            flow,
            visible_by_depth(self.truth.depth, flow),
            main_flow(self.target, range(self.length), SIZE)[:-1],
        )

    def settings(self, **changes: object) -> EditSettings:
        """Return settings of the edit, with the world's captions as prompts."""
        return EditSettings.from_json(
            {"prompt": caption(self.target), "source_prompt": caption(self.scene), **changes}
        )


def _other_value(rng: random.Random, scene: Scene, name: str) -> str:
    return rng.choice([value for value in ATTRIBUTES[name] if value != scene.attribute(name)])


def edit_pipeline(backbone: Backbone, settings: EditSettings, watch: Watch | None = None) -> Pipeline:
    """Open an edit with a model that is there already; LoRAs, embeddings and ControlNets have no part in it."""
    chosen = chosen_host(settings.host, settings.motion, backbone.name, settings.usual_host)
    settings = replace(settings, host=chosen)
    host = create_host(settings.host, settings.host_options)
    motion = MotionInUse.opened(settings.motion, settings.motion_window, backbone, host, download=False)
    if watch is not None:
        host = _Watched(host, watch)
    adapter = AdapterInUse.opened(settings.adapter, backbone, with_source=True)
    stopwatch = Stopwatch(backbone.device)
    return Pipeline(backbone, host, settings, silent, stopwatch, adapter=adapter, motion=motion)


def edit_frames(
    backbone: Backbone, frames: Frames, settings: EditSettings, watch: Watch | None = None
) -> Frames:
    """Edit frames that have the model's own size already."""
    pipeline = edit_pipeline(backbone, settings, watch)
    if pipeline.adapter is not None:
        pipeline.adapter.see(frames)
    latents = backbone.encode(frames)
    region = region_of(pipeline, latents)
    edited = backbone.decode(pipeline.edit(latents, region=region)).cpu()
    if region is None:
        return edited
    return region.put_back_whole(edited, backbone.decode(latents).cpu(), frames)


@dataclass(frozen=True)
class _Watched:
    """A host that lets someone look on."""

    name: ClassVar[str] = "watched"

    host: Host
    watch: Watch

    @property
    def tells_relative(self) -> bool:
        return tells_relative(self.host)

    @contextmanager
    def attach(self, backbone: Backbone, job: EditJob) -> Generator[Session]:
        with self.host.attach(backbone, job) as session:
            yield _WatchedSession(session, self.watch)

    def attach_inversion(self, backbone: Backbone, frames: int) -> AbstractContextManager[int | None]:
        return inverting(self.host, backbone, frames)


@dataclass(frozen=True)
class _WatchedSession:
    session: Session
    watch: Watch

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        return self.session.start()

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        self.watch(timestep, latents)
        return self.session.predict_noise(latents, step_index, timestep)


def judged(edit: WorldEdit, edited: Frames, judge: Judge) -> tuple[dict[str, bool], dict[str, bool]]:
    """Tell by attribute whether what was asked for is there, and what was not asked for is kept (most frames
    decide)."""
    verdict = judge.verdict(edited)
    right = {name: verdict[name] == edit.target.attribute(name) for name in ATTRIBUTES}
    asked = {name: hit for name, hit in right.items() if name in edit.change}
    return asked, {name: hit for name, hit in right.items() if name not in edit.change}


def softened(frames: Frames, sigma: float = 1.0) -> Frames:
    """Return frames blurred by a pixel: a control, as it lowers warp error and flicker and mends nothing."""
    return blurred(frames.flatten(0, 1), sigma).reshape(frames.shape)


def measured(
    edit: WorldEdit, edited: Frames, clip_model: ClipModel | None, only: Collection[str] = METRICS
) -> dict[str, float | None]:
    """Measure one edit by METRICS, or `only` these, percentages as shares; None for one that the clip does not allow.

    Without a CLIP, the figures that need one are None.
    Prompts are the world's captions, whatever the edit was told. The mask holds the object as it was and as it should
    be. Where the background or the style was to change, nothing of the background was to stay: its figures are None.
    """
    shown = torch.maximum(edit.source.masks, edit.truth.masks).amax(1, keepdim=True)
    inputs = Inputs(
        prompt=caption(edit.target),
        source_prompt=caption(edit.scene),
        mask=True,
        truth=True,
        answer=edit.answer,
        flow=edit.flow,
        clip=clip_model,
    )
    parts = cut(edit.source.frames, edited, shown == 0, edit.truth.frames)
    chosen = {name: kind for name, kind in METRICS.items() if name in only}
    figures = measure(windows(parts, inputs), chosen, inputs)
    values = {
        name: figure.value / 100 if figure.value is not None and METRICS[name].unit == "%" else figure.value
        for name, figure in figures.items()
    }
    if edit.change.keys() & {"background", "style"}:
        values |= {name: None for name in ("background_psnr", "background_ssim") if name in only}
    return values
