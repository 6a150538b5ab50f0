"""What edits and clips made from text do alike: prompts, additions, sampling, and decoding window by window."""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch.nn.functional import interpolate

from evenreel.backbones import Backbone
from evenreel.backbones.base import QuickEdit
from evenreel.backbones.control import AnyControl
from evenreel.backbones.deep_features import has_deep_features
from evenreel.diffusion import sampling
from evenreel.diffusion.inversion import Inverted
from evenreel.files import shown
from evenreel.hosts.base import Carries, EditJob, Host, PrefixOf, Prompts, Session
from evenreel.hosts.feature_reuse import FeatureReuse
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.source_rows import SourceRows
from evenreel.inversions.base import Inversion, SourceClip
from evenreel.jobs.reached import Reached
from evenreel.ops.regions import Weights
from evenreel.progress import Progress, tracked
from evenreel.scratch import joined
from evenreel.settings import EditSettings, RunSettings
from evenreel.settings.option_groups import EDIT_STEPS
from evenreel.types import Latents, Pixels
from evenreel.video import VideoInfo, from_model
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from evenreel.workflows.editing.additions.control import Conditions
from evenreel.workflows.editing.additions.loras import Additions
from evenreel.workflows.editing.additions.motion import MotionInUse
from evenreel.workflows.editing.computing.sizes import window_length
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.regions.region import changed

log = logging.getLogger(__name__)
Made = TypeVar("Made")

ROUNDING = 1e-6
"""Shares such as 0.55 of 1000 are a hair more than they say."""
SAME_SHAPE = 0.1
"""Logarithm of the ratio of two aspects that count as one: frames of models have sides of certain multiples only."""


@runtime_checkable
class Keeper(Protocol):
    """Keeps what a run has done, and knows what one that was stopped had done; see `job_use`."""

    def encoded(self, start: int, count: int) -> Latents | None:
        """Return latents of frames from `start` on, where all of them are there."""
        ...

    def encode(self, start: int, latents: Latents) -> None:
        """Keep latents of frames from `start` on."""
        ...

    def encode_to(self, count: int) -> None:
        """Hear that so many frames are encoded."""
        ...

    def of_scene(self, first: int) -> "Keeper":
        """Return the same for a scene that begins at a frame."""
        ...

    def of_prompt(self, number: int) -> "Keeper":
        """Return the same for one of several prompts, each of which is followed in other places."""
        ...

    def reached(self, device: torch.device) -> Reached | None:
        """Return where sampling has got to."""
        ...

    def reach(self, steps: int, latents: Latents, session: Session, *, last: bool) -> None:
        """Keep the latents that sampling has after a step."""
        ...

    def inverted(
        self, source: SourceClip, inversion: Inversion, host: Host, decides: Mapping[str, Any]
    ) -> AbstractContextManager[Inverted]:
        """Invert a clip, or find that done; `decides` is what else it depends on."""
        ...

    def source_rows(self, host: Host, settings: RunSettings) -> AbstractContextManager[SourceRows]:
        """Hold what the source's rows are in network calls of an edit of the clip inverted last."""
        ...


@dataclass(frozen=True)
class Stages:
    """A model, a host and settings, and what edits and clips made from text do with them alike."""

    kind: ClassVar[str]
    """`edit` or `generate`."""

    backbone: Backbone
    host: Host
    settings: RunSettings
    progress: Progress
    stopwatch: Stopwatch
    conditions: Conditions | None = None
    """ControlNets and what they are shown; None without one."""
    adapter: AdapterInUse | None = None
    """None without one."""
    additions: Additions | None = None
    """LoRAs, embeddings, and how prompts are read."""
    motion: MotionInUse | None = None
    """Motion modules; None without."""

    kept: Keeper | None = None
    """What is kept of the run, so that one that was stopped goes on; None where nothing is."""

    first: int = 0
    """Number, in the clip that is made, of the first frame: scenes are edited one by one."""

    notices: list[str] = field(default_factory=list)
    """What of the settings has no effect, or less of one than may be thought; a sentence each, for the record."""

    @contextmanager
    def completed(self) -> Generator[None]:
        """Put the model's LoRAs and embeddings to work while inside."""
        with nullcontext() if self.additions is None else self.additions.at_work(self.backbone):
            yield

    def notice(self, text: str) -> None:
        """Log a warning of something that has no effect, and keep it for the record; each once."""
        if f"{text}." in self.notices:
            return
        log.warning("%s.", text)
        self.notices.append(f"{text}.")

    @property
    def guidance_scale(self) -> float:
        """As the settings have it, else the model."""
        told = self.settings.guidance_scale
        return getattr(self.backbone.guidance, self.kind) if told is None else told

    @property
    def measured(self) -> QuickEdit | None:
        """What saves time in the model's edits, where this is one of those that it was measured with."""
        settings = self.settings
        is_measured = (
            isinstance(settings, EditSettings)
            and settings.inversion == "flow-edit"
            and self.host.name == "frame"
            and self.motion is not None
        )
        return self.backbone.guidance.quick_edit if is_measured else None

    @property
    def quick(self) -> QuickEdit | None:
        """The same; None where it is switched off."""
        return None if self.settings.exact else self.measured

    @property
    def steps(self) -> int:
        """As the settings have it, else the model."""
        return self.settings.steps or (EDIT_STEPS if self.quick is None else self.quick.steps)

    @property
    def guidance_interval(self) -> tuple[float, float]:
        """Noise levels with guidance, from 0 (clean) to 1: as the settings have it, else the model."""
        usual = (0.0, 1.0) if self.quick is None else self.quick.guidance_interval
        return self.settings.guidance_interval or usual

    @property
    def guided_timesteps(self) -> tuple[float, float] | None:
        """The same in training timesteps; None is all of them."""
        if self.guidance_interval == (0.0, 1.0):
            return None
        first, last = (share * len(self.backbone.schedule.alphas_cumprod) for share in self.guidance_interval)
        return first - ROUNDING, last + ROUNDING

    @property
    def chosen(self) -> dict[str, Any]:
        """What settings leave to the model, as plain values."""
        return {
            "guidance_scale": self.guidance_scale,
            "guidance_interval": list(self.guidance_interval),
            "steps": self.steps,
        }

    def control(self, size: tuple[int, int], first: int, count: int) -> AnyControl | None:
        """Return what the ControlNets see of frames from `first` on, at (width, height) `size`."""
        if self.conditions is None:
            return None
        for one in self.conditions.each:
            if one.clip is not None:
                self._compare(one.clip, size, count)
        with self.stopwatch.stage("control"):
            control = self.conditions.control(size, first, count, self.progress, self.scenes(count))
        for one in self.conditions.each:
            if one.empty:
                self.notice(f"the pose model sees nobody in {one.empty} of {count} frames")
        return control

    def scenes(self, count: int) -> Sequence[slice]:
        """Return the parts of a clip of so many frames that are made one by one; here all of it is one."""
        return (slice(0, count),)

    def _compare(self, clip: VideoInfo, size: tuple[int, int], count: int) -> None:
        """Warn of a control's clip of another shape, or of which only a part is shown."""
        if abs(math.log(clip.width * size[1] / (clip.height * size[0]))) > SAME_SHAPE:
            self.notice(
                f"the control's clip {shown(clip.path)} is {clip.width} x {clip.height} and is stretched to "
                f"{size[0]} x {size[1]}, another shape; in one of the same shape things are in their places"
            )
        there = clip.estimated_frame_count
        whole = not isinstance(self.settings, EditSettings) or self.settings.frames == (0, None)
        if whole and there is not None and there > count:
            self.notice(f"of the control's {there} frames, the first {count} are shown")

    @contextmanager
    def adapted(self) -> Generator[PrefixOf | None]:
        """Put the adapter, if there is one, to work in the model while inside; yields what goes in front of prompts."""
        if self.adapter is None:
            yield None
            return
        with self.adapter.attached(self.backbone) as prefix:
            yield prefix

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """Those of the run, descending."""
        return self.backbone.schedule.timesteps(self.steps)

    def embedded(self, frames: int, *others: str) -> tuple[torch.Tensor, ...]:
        """Embed the prompt, a row for all frames or one for each where it changes; then a row for each of `others`."""
        schedule, numbers = self.settings.schedule, range(self.first, self.first + frames)
        shown = schedule.texts_in(numbers)
        rows = self.backbone.embed([*shown, *others]).split(1)
        texts = dict(zip(shown, rows, strict=False))
        if len(shown) == 1:
            return rows
        mixed = (
            sum(
                (texts[text] * share for text, share in schedule.shares(frame).items()),
                torch.zeros_like(rows[0]),
            )
            for frame in numbers
        )
        return joined(mixed, frames), *rows[len(texts) :]

    def written(self, frames: int, source: str) -> Prompts | None:
        """Return the prompts as they were written; None where one changes, so that no words are compared."""
        shown = self.settings.schedule.texts_in(range(self.first, self.first + frames))
        return Prompts(source=source, edit=shown[0]) if len(shown) == 1 else None

    @contextmanager
    def moved(self, apart: frozenset[int] = frozenset()) -> Generator[MotionWindows | None]:
        """Put the motion modules, if there are some, into the model while inside: in the inversion and the sampling.

        Frames in `apart` pass by themselves.
        """
        if self.motion is None:
            yield None
            return
        with self.motion.attached(self.backbone, self.timesteps, apart) as windows:
            yield windows

    def sample(
        self,
        job: EditJob,
        stage: str,
        added_noise: sampling.AddedNoise | None = None,
        eta: float = 1.0,
        put_back: sampling.PutBack | None = None,
    ) -> Latents:
        """Sample clean latents of a whole clip."""
        reuse = self._reuse(job)
        job = replace(job, reuse=reuse)
        with ExitStack() as stack:
            stack.enter_context(self.stopwatch.stage("sample"))
            session = stack.enter_context(self.host.attach(self.backbone, job))
            clean, timesteps = session.start()
            clean, first = self._taken_up(session, clean)
            steps = sampling.sample(
                clean,
                session.predict_noise,
                self.backbone.schedule,
                timesteps,
                added_noise=added_noise,
                eta=eta,
                put_back=put_back,
                first=first,
            )
            total = len(timesteps)
            for step, (_, clean) in enumerate(tracked(steps, self.progress, stage, total, first), first + 1):
                # a run that was stopped goes on where nothing is needed but latents
                if self.kept is not None and (
                    step == total or reuse is None or reuse.begins_group(timesteps[step])
                ):
                    self.kept.reach(step, clean, session, last=step == total)
        if reuse is not None and not reuse.is_used:
            self.notice(
                f"host {self.host.name} predicts noise in its own way, so that steps share no features"
            )
        return clean

    def _reuse(self, job: EditJob) -> FeatureReuse | None:
        """What steps share, if anything."""
        unet, interval = self.backbone.unet, self.settings.cache_interval
        if interval > 1 and not has_deep_features(unet):
            self.notice("the model's noise predictor has no deep blocks, so that steps share no features")
            return None
        return FeatureReuse(unet, job.timesteps, interval, job.shape[0]) if interval > 1 else None

    def _taken_up(self, session: Session, start: Latents) -> tuple[Latents, int]:
        """Latents to begin with, and the step: those of a run that was stopped, or the start."""
        reached = None if self.kept is None else self.kept.reached(self.backbone.device)
        if reached is None:
            return start, 0
        if isinstance(session, Carries):
            session.carry_on(reached.carried)
        return reached.latents, reached.steps

    def decode(self, latents: Latents, size: tuple[int, int]) -> Iterator[Pixels]:
        """Decode frames of the source's size, window by window."""

        def pixels(part: slice) -> Pixels:
            return from_model(self.backbone.decode(latents[part]), size).cpu()

        return self._in_windows(len(latents), size, pixels)

    def decode_beside(
        self, latents: Latents, clean: Latents, size: tuple[int, int]
    ) -> Iterator[tuple[Pixels, Weights]]:
        """Decode the same, each window with how much an edit changed every pixel; `clean` are the source's latents."""

        def both(part: slice) -> tuple[Pixels, Weights]:
            edited = self.backbone.decode(latents[part])
            weights = changed(edited, self.backbone.decode(clean[part]))
            width, height = size
            weights = interpolate(weights[:, None], (height, width), mode="bilinear", align_corners=False)
            return from_model(edited, size).cpu(), weights[:, 0].cpu()

        return self._in_windows(len(latents), size, both)

    def _in_windows(self, total: int, size: tuple[int, int], made: Callable[[slice], Made]) -> Iterator[Made]:
        """What is made of windows of `total` frames of a size, which are written before the next."""
        stage, window = "decode and write", window_length(*size, self.settings.batch)
        self.progress(stage, 0, total)
        for start in range(0, total, window):
            with self.stopwatch.stage("decode"):
                found = made(slice(start, start + window))
            with self.stopwatch.stage("write"):
                yield found
            self.progress(stage, min(total, start + window), total)
