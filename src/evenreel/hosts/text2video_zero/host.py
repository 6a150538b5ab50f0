"""Text2Video-Zero (arXiv:2303.13439): motion in the latents of one frame, and all frames looking at the first one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel import random
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.diffusion import ddim, motion, sampling
from evenreel.errors import SettingsError, argument
from evenreel.hosts.base import EditJob, Occasion, Session, anchor_of, sole_session, start_of
from evenreel.hosts.injection import InjectionPlan, InjectionState, features_injected
from evenreel.hosts.prediction import branches, predict_guided, predict_in_windows
from evenreel.hosts.text2video_zero.first_frame import FirstFrameState, first_frame_attentions
from evenreel.hosts.text2video_zero.variants import Clip, DemoClip, Motion, PublishedMotion
from evenreel.settings import Range, settle
from evenreel.types import Latents

LARGEST_MOTION = 512.0


@dataclass(frozen=True, kw_only=True)
class Text2VideoZeroHost:
    """Every frame looks at the first one: clips from text alone, from a control, or edited.

    Defaults are the published ones.
    """

    name: ClassVar[str] = "text2video_zero"
    with_motion: ClassVar[bool] = True
    tells_relative: ClassVar[bool] = True
    without_source: ClassVar[Mapping[str, float]] = {"pnp_attn": 0.0, "pnp_conv": 0.0}

    motion_x: Annotated[float, Range(-LARGEST_MOTION, LARGEST_MOTION)] = 12.0
    """From text alone: how far the camera moves to the right at each frame, in pixels of a picture whose shorter side
    is 512."""
    motion_y: Annotated[float, Range(-LARGEST_MOTION, LARGEST_MOTION)] = 12.0
    """From text alone: how far the camera moves down at each frame, in pixels of a picture whose shorter side is
    512."""
    motion_timestep: int = 881
    """From text alone: training timestep at which copies of the first frame are moved. It is meant for pictures whose
    shorter side is 512; others take the step of the run at which their layout is as settled."""
    free_timestep: int = 941
    """From text alone: training timestep to which moved copies are thrown back; the later it is, the more they differ.
    It is meant for pictures whose shorter side is 512, as `motion_timestep` is."""
    pnp_attn: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Share of the steps, from the first, at which self-attention takes queries and keys from the source."""
    pnp_conv: Annotated[float, Range(0.0, 1.0)] = 0.8
    """Share of the steps, from the first, at which a decoder resnet takes its features from the source."""
    anchor: Annotated[int | None, Range(0)] = None
    """With a source or a ControlNet: number of the frame that all look at, from 0; none: the first that is not of one
    colour."""
    published: bool = False
    """Whether to repeat what the published code gets wrong: noise off by a timestep on the way back, motion off
    by half a pixel and by the aspect ratio, and one pair of timesteps for every size."""
    published_chunks: bool = False
    """Whether to do as the published demo does: show a thrown-back copy in the place of the first frame, and
    draw the same noise for every `--batch` frames."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")
        if not 0 <= self.motion_timestep < self.free_timestep:
            raise SettingsError(
                f"{self.name}.motion_timestep must be from 0 to below free_timestep ({self.free_timestep}), "
                f"got {self.motion_timestep}."
            )

    @property
    def motion(self) -> Motion:
        """How copies are moved: as published, or not."""
        return PublishedMotion() if self.published else Motion()

    @property
    def clip(self) -> Clip:
        """What becomes of the first frame: as in the published demo, or not."""
        return DemoClip() if self.published_chunks else Clip()

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return settings of clips made from text alone where there is more than text."""
        if not (occasion.with_source or occasion.with_control):
            return {"anchor": "in clips from text alone all frames come from the first"}
        names = ("motion_x", "motion_y", "motion_timestep", "free_timestep", "published", "published_chunks")
        idle: dict[str, str] = dict.fromkeys(names, "it is for clips from text alone")
        return idle | (
            {"seed": "nothing is random in an edit by text2video_zero"} if occasion.with_source else {}
        )

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob, *, draws: "Draws | None" = None) -> Iterator[Session]:
        """Install attention across frames, and injection, while inside. `draws` replays recorded noise."""
        session = Text2VideoZeroSession(backbone, job, self, draws)
        unet, control = backbone.unet, job.control
        across = first_frame_attentions(unet, session.first_frame_state, session.injection)
        with ExitStack() as stack:
            stack.enter_context(processors_installed(unet, across))
            stack.enter_context(features_injected(unet, session.injection))
            for number, net in enumerate(() if control is None else control.nets):
                shown = first_frame_attentions(net, session.control_first_frame_state, label=f"{number} ")
                stack.enter_context(processors_installed(net, shown))
            yield session


@dataclass(frozen=True)
class Draws:
    """All randomness of a clip that is not edited."""

    first: Float[Tensor, "1 channels height width"]
    """Of one frame: where the first frame starts."""
    thrown: Float[Tensor, "moved channels height width"]
    """Of each moved frame: the noise that throws it back."""

    @classmethod
    def of(cls, job: EditJob, clip: Clip) -> "Draws":
        """Return what follows from the seed."""
        generator = random.generator(job.seed)
        first = torch.randn(1, *job.shape[1:], generator=generator)
        return cls(first, clip.thrown(job, generator))


class Text2VideoZeroSession:
    """One clip; every frame is computed once in a step, in batches that see the first frame of the first batch."""

    def __init__(
        self, backbone: Backbone, job: EditJob, host: Text2VideoZeroHost, draws: Draws | None = None
    ) -> None:
        if job.motion is not None and host.published_chunks:
            raise SettingsError(
                "text2video_zero does as the published demo does when published_chunks is set, and that has no motion "
                f"modules; leave it out, or choose {argument('motion')} off."
            )
        self.backbone, self.job, self.host = backbone, job, host
        self.plan = InjectionPlan.of(job, host.pnp_attn, host.pnp_conv)
        self.motion, self.clip, self._draws = host.motion, host.clip, draws
        self.injection = InjectionState()
        self.first_frame_state = FirstFrameState()
        self.control_first_frame_state = FirstFrameState()
        self._anchor = 0 if host.published else anchor_of(job, host.anchor)
        self.first_frames: dict[int, Latents] = {}
        """By timestep, the first frame at the level of that timestep, where it is not a frame of the clip."""

    @cached_property
    def draws(self) -> Draws:
        """The noise of a clip that is not edited."""
        return self._draws or Draws.of(self.job, self.clip)

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source; with a control and no source at noise that all frames share; else at moved
        copies."""
        if self.job.source is not None:
            return start_of(self.job, self.backbone.device)
        if self.job.control is not None:
            first = self.draws.first.to(self.backbone.device)
            return first.expand(self.job.shape[0], -1, -1, -1).clone(), self.job.timesteps
        return self._moving()

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict guided noise, some frames at a time; the source takes part only while it is injected."""
        self.injection.attention, self.injection.features = self.plan.at(step_index)
        if timestep not in self.first_frames:
            return self._predict(latents, range(len(latents)), timestep)
        shown = torch.cat([self.first_frames[timestep], latents])
        return self._predict(shown, (0, *range(len(latents))), timestep)[1:]

    def _predict(self, latents: Latents, frames: Sequence[int], timestep: int) -> Latents:
        with_source = self.injection.attention or self.injection.features or self.job.relative
        self.injection.branches = self.first_frame_state.branches = branches(
            self.job, timestep, with_source=with_source
        )
        self.control_first_frame_state.branches = branches(self.job, timestep, with_source=False)
        # Seen as the edit is where predictions are relative to it: prompts that agree then change nothing.
        self.first_frame_state.with_source = with_source and not self.job.relative

        # the frame that all look at, in the first call of the step
        anchor = self._anchor if tuple(frames) == tuple(range(self.job.shape[0])) else 0
        states = (self.first_frame_state, self.control_first_frame_state)

        def predict(rows: Sequence[int]) -> Latents:
            for state in states:
                state.more = len(rows) < len(latents)
                state.row = rows.index(anchor) if anchor in rows else 0
            numbers = [frames[row] for row in rows]
            return predict_guided(
                self.backbone, self.job, latents[list(rows)], numbers, timestep, with_source=with_source
            )

        try:
            return predict_in_windows(self.job, latents, timestep, predict, first=anchor)
        finally:
            self.first_frame_state.anchors.clear()
            self.control_first_frame_state.anchors.clear()

    def _moving(self) -> tuple[Latents, tuple[int, ...]]:
        """The first frame denoised until it is moved; the others are moved copies, thrown back (section 3.3.1)."""
        job, schedule = self.job, self.backbone.schedule
        lower, upper = self.levels()
        reached = self._denoised(self.clip.last(job.timesteps, lower))
        numbers = range(self.clip.first_moved, job.shape[0])
        copies = reached[lower].expand(len(numbers), -1, -1, -1)
        moved = motion.shifted(copies, [self._shift(number) for number in numbers])
        alpha = self.motion.alpha_between(schedule, lower, upper)
        copies = ddim.add_noise(moved, self.draws.thrown.to(moved), alpha)
        latents, self.first_frames = self.clip.joined(reached, upper, copies)
        return latents, tuple(timestep for timestep in job.timesteps if timestep <= upper)

    def levels(self) -> tuple[int, int]:
        """Return timesteps of the run at which copies are moved, and to which they are thrown back."""
        wanted = self.host.motion_timestep, self.host.free_timestep
        found = self.motion.wanted(self.backbone.schedule, wanted, min(self.job.shape[2:]))
        return motion_levels(self.job.timesteps, *found)

    def _denoised(self, last: int) -> dict[int, Latents]:
        """By timestep down to `last`, the first frame at its level."""
        timesteps = self.job.timesteps
        first = self.draws.first.to(self.backbone.device)
        reached = {timesteps[0]: first}
        until = timesteps[: timesteps.index(last) + 1]
        run = sampling.sample(
            first,
            lambda latents, _, timestep: self._predict(latents, (0,), timestep),
            self.backbone.schedule,
            until,
        )
        for timestep, (_, latents) in zip(until[1:], run, strict=False):
            reached[timestep] = latents
        return reached

    def _shift(self, number: int) -> tuple[float, float]:
        *_, height, width = self.job.shape
        host, shorter = self.host, min(height, width)
        return (
            self.motion.shift(host.motion_y * number, height, shorter),
            self.motion.shift(host.motion_x * number, width, shorter),
        )


def motion_levels(timesteps: Sequence[int], moved: int, free: int) -> tuple[int, int]:
    """Return, of a run's descending timesteps, the nearest to `moved` and to `free`; of two as near, the noisier.

    The first lies below the second, unless the run has but one step there.
    """
    upper = min(timesteps, key=lambda timestep: (abs(timestep - free), -timestep))
    below = [timestep for timestep in timesteps if timestep < upper]
    lower = min(below, key=lambda timestep: (abs(timestep - moved), -timestep), default=upper)
    return lower, upper
