"""One edit by vid2vid-zero: frames see each other, and attention comes from the source."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch

from evenreel import random
from evenreel.backbones.base import Backbone
from evenreel.errors import SettingsError
from evenreel.hosts.base import EditJob, anchor_of, start_of
from evenreel.hosts.motion_windows import Window, predict_fused
from evenreel.hosts.prediction import branches, predict_guided
from evenreel.hosts.prompt_to_prompt import PromptMap, PromptToPromptState, has_words, map_prompts, tokens_of
from evenreel.hosts.vid2vid_zero.spatio_temporal import VideoAttentionState
from evenreel.hosts.windows import cut
from evenreel.types import Latents, PromptRows

NO_SOURCE = (
    "vid2vid_zero takes attention from an inverted source; set cross and self_attention to 0 without one."
)


@runtime_checkable
class Vid2VidZeroSettings(Protocol):
    """What a session reads of its host's settings."""

    @property
    def window(self) -> int: ...
    @property
    def anchor(self) -> int | None: ...
    @property
    def cross(self) -> float: ...
    @property
    def self_attention(self) -> float: ...
    @property
    def null_text(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class ControlPlan:
    """At which steps of a run attention comes from the source."""

    prompts: PromptMap | None
    """How attention to the prompt does; None when there are no words to compare."""
    text_steps: int
    """First steps at which it does."""
    self_steps: int
    """First steps at which coarse self-attention does."""


class Vid2VidZeroSession:
    """One edit, window by window; the source comes from its inversion, and takes part while attention comes from it."""

    def __init__(self, backbone: Backbone, job: EditJob, host: "Vid2VidZeroSettings") -> None:
        self.check(job, host)
        self.backbone, self.window, self.anchor = backbone, min(host.window, job.batch), host.anchor
        self.job = replace(job, null_embeds=self.null_texts_used(job, host.null_text))
        self.plan = self.planned(backbone, job, host)
        self.video_attention = VideoAttentionState()
        self.prompt_to_prompt = PromptToPromptState(latent_size=job.shape[2:])

    @staticmethod
    def check(job: EditJob, host: "Vid2VidZeroSettings") -> None:
        """Raise SettingsError for a job that this cannot do."""
        if job.source is None and (host.cross or host.self_attention):
            raise SettingsError(NO_SOURCE)

    @staticmethod
    def together(unet: Any, frames: int) -> AbstractContextManager[int | None]:
        """Make the model see `frames` together outside its attention, while inside; yields how many it must, if any."""
        del unet, frames
        return nullcontext()

    @staticmethod
    def null_texts_used(job: EditJob, share: float) -> Mapping[int, PromptRows]:
        """Take null texts of the first steps, or, where `share` is negative, of the last ones."""
        first, last = null_text_steps(len(job.timesteps), share)
        return {
            timestep: job.null_embeds[timestep]
            for index, timestep in enumerate(job.timesteps)
            if timestep in job.null_embeds and first <= index < last
        }

    @staticmethod
    def planned(backbone: Backbone, job: EditJob, host: "Vid2VidZeroSettings") -> "ControlPlan":
        """Return shares of the run as whole steps. An empty source prompt has no words that attention could come
        from."""
        steps = len(job.timesteps)
        self_steps = int(steps * host.self_attention)
        if not (host.cross and has_words(job)):
            return ControlPlan(prompts=None, text_steps=0, self_steps=self_steps)
        prompts = map_prompts(*tokens_of(backbone, job, "vid2vid_zero.cross"))
        return ControlPlan(prompts=prompts, text_steps=int(steps * host.cross), self_steps=self_steps)

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict guided noise; where windows meet is drawn anew at every step."""
        with_source = self.job.relative or step_index < max(self.plan.text_steps, self.plan.self_steps)
        self._set(step_index, branches(self.job, timestep, with_source=with_source), source=0)
        anchor = anchor_of(self.job, self.anchor)
        later, earlier = self._windows(step_index, timestep, len(latents), anchor)
        following = dict(pairwise(later))

        def predict(window: Window) -> Latents:
            state, after = self.video_attention, following.get(window)
            if earlier and window is earlier[0]:
                state.turn_back()
            state.row = window.frames.index(anchor) if window is later[0] else 0
            state.more = window in later and (after is not None or bool(earlier))
            # the last of its frames before the next window begins
            state.handed_on = (
                -1 if after is None else sum(frame < after.frames[0] for frame in window.frames) - 1
            )
            frames = list(window.frames)
            return predict_guided(
                self.backbone, self.job, latents[frames], frames, timestep, with_source=with_source
            )

        try:
            return predict_fused(latents, [*later, *earlier], predict)
        finally:
            self.video_attention.forget()

    def _set(self, step_index: int, branches: int, source: int) -> None:
        self.video_attention.branches = self.prompt_to_prompt.branches = branches
        self.prompt_to_prompt.source = source
        self.prompt_to_prompt.prompts = self.plan.prompts if step_index < self.plan.text_steps else None
        self.prompt_to_prompt.self_attention = step_index < self.plan.self_steps

    def _windows(
        self, step_index: int, timestep: int, frames: int, anchor: int
    ) -> tuple[list[Window], list[Window]]:
        """Windows from that with the frame that all see to the end, and those before it."""
        if self.job.motion is not None:
            windows = self.job.motion.cut(frames, timestep)
            first = next(number for number, window in enumerate(windows) if anchor in window.frames)
            return windows[first:], windows[:first]
        first = int(torch.randint(self.window, (), generator=random.generator(self.job.seed, step_index)))
        return self._cut(range(anchor, frames), first), self._cut(range(anchor), first)

    def _cut(self, frames: range, first: int) -> list[Window]:
        if not frames:
            return []
        pieces = [tuple(range(len(frames)))]
        if len(frames) > self.window:
            pieces = cut(len(frames), self.window, first)
        return [Window(tuple(frames[row] for row in piece), (1.0,) * len(piece)) for piece in pieces]


def null_text_steps(steps: int, share: float) -> tuple[float, float]:
    """Return where null texts begin and end to be used, counted in steps."""
    return (0.0, steps * share) if share > 0 else (steps * (1 + share), float(steps))
