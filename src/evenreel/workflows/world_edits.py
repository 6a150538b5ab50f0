"""Edits of the world's clips, whose right answer is known, and everything that can be measured of one."""

import random
from dataclasses import dataclass
from functools import cached_property

import torch

from evenreel.backbones import Backbone
from evenreel.hosts.base import create_host
from evenreel.metrics.fidelity import psnr
from evenreel.metrics.judge import Judge
from evenreel.metrics.temporal import flicker, warp_error
from evenreel.ops.warp import visible_by_depth
from evenreel.settings import EditSettings
from evenreel.types import Frames
from evenreel.workflows.adapting import AdapterInUse
from evenreel.workflows.measure import Stopwatch
from evenreel.workflows.pipeline import Pipeline
from evenreel.workflows.progress import silent
from evenreel.world import ATTRIBUTES, HELD_OUT, Rendering, Scene, caption, random_scene, render

SIZE = 128


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
        """Held-out scene `number` with one attribute changed at random; which one goes round with the number."""
        scene = random_scene(HELD_OUT + number, objects=1)
        rng = random.Random(f"evenreel change {scene.seed}")
        name = list(ATTRIBUTES)[number % len(ATTRIBUTES)]
        value = rng.choice([value for value in ATTRIBUTES[name] if value != scene.attribute(name)])
        return cls(scene, {name: value}, length)

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
        return render(self.target, range(self.length), SIZE, maps=False)

    def settings(self, **changes: object) -> EditSettings:
        """Settings of the edit, with the world's captions as prompts."""
        return EditSettings.from_json(
            {"prompt": caption(self.target), "source_prompt": caption(self.scene), **changes}
        )


def edit_frames(backbone: Backbone, frames: Frames, settings: EditSettings) -> Frames:
    """Edit frames that have the model's own size already."""
    host = create_host(settings.host, settings.host_options)
    adapter = AdapterInUse.opened(settings, backbone, with_source=True)
    if adapter is not None:
        adapter.see(frames)
    pipeline = Pipeline(backbone, host, settings, silent, Stopwatch(backbone.device), adapter=adapter)
    return backbone.decode(pipeline.edit(backbone.encode(frames))).cpu()


def judged(edit: WorldEdit, edited: Frames, judge: Judge) -> tuple[dict[str, bool], dict[str, bool]]:
    """By attribute: is what was asked for there, is what was not asked for kept (most frames decide)."""
    verdict = judge.verdict(edited)
    right = {name: verdict[name] == edit.target.attribute(name) for name in ATTRIBUTES}
    asked = {name: hit for name, hit in right.items() if name in edit.change}
    return asked, {name: hit for name, hit in right.items() if name not in edit.change}


def measured(edit: WorldEdit, edited: Frames, judge: Judge) -> dict[str, float | None]:
    """Figures of one edit; None for one that the clip does not allow.

    asked, kept: shares of attributes (judge). truth_psnr: dB against the right answer; background_psnr: dB against the
    source where neither it nor the right answer shows an object, None where the background was to change. warp_error
    and flicker: along the source's motion; see `metrics.temporal`.
    """
    asked, kept = judged(edit, edited, judge)
    flow = edit.source.flow[:-1]
    visible = visible_by_depth(edit.source.depth, flow)
    empty = 1 - torch.maximum(edit.source.masks, edit.truth.masks).amax(1, keepdim=True)
    changed = edit.change.keys() & {"background", "style"}
    return {
        "asked": sum(asked.values()) / len(asked),
        "kept": sum(kept.values()) / len(kept),
        "truth_psnr": psnr(edited, edit.truth.frames),
        "background_psnr": None if changed else psnr(edited, edit.source.frames, empty),
        "warp_error": warp_error(edited, flow, visible),
        "flicker": flicker(edited, flow, visible),
    }
