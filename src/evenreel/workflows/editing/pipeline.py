"""The numbers of an edit: pixels to latents, noise and back, on a model and a host that are there already.

Memory is bounded by windows of frames; only latents are held for the whole clip, and their trajectory goes to disk
when it is large.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch.nn.functional import interpolate

from evenreel.backbones import Backbone
from evenreel.backbones.control import AnyControl
from evenreel.backbones.devices import choose_device, choose_dtype
from evenreel.backbones.sharing import exclusive
from evenreel.diffusion import sampling
from evenreel.diffusion.inversion import Inverted
from evenreel.errors import ResourceError, argument
from evenreel.hosts.base import Carries, EditJob, Host, PrefixOf, Prompts, Session, inverting, tells_relative
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.inversions.base import Inversion, SourceClip, create_inversion
from evenreel.jobs.reached import Reached
from evenreel.ops.number_types import is_slow
from evenreel.ops.regions import Weights
from evenreel.progress import Progress, tracked
from evenreel.settings import EditSettings, RunSettings
from evenreel.types import Frames, Latents, Pixels, PromptEmbeds
from evenreel.video import VideoInfo, fit, from_model, to_model
from evenreel.workflows.editing.adapter_use import AdapterInUse
from evenreel.workflows.editing.control_use import Conditions
from evenreel.workflows.editing.model_additions import Additions
from evenreel.workflows.editing.motion_use import MotionInUse
from evenreel.workflows.editing.regions import Region, changed
from evenreel.workflows.editing.resource_use import Stopwatch

Made = TypeVar("Made")

log = logging.getLogger(__name__)

SAME_SHAPE = 0.1
"""Logarithm of the ratio of two aspects that count as one: frames of models have sides of certain multiples only."""
NOISE = 4 / 255
"""Standard deviation of a colour that frames of one colour may have: what codecs leave."""
LARGEST_ASPECT = 8
"""Pixels of a working frame may be at most this many times those of a square one: a banner must not take all memory."""
WINDOW_PIXELS = 2**23
"""Source pixels read at once (four frames of full HD), which cost about 30 bytes each while they are resized."""


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

    def reached(self, device: torch.device) -> Reached | None:
        """Return where sampling has got to."""
        ...

    def reach(self, steps: int, latents: Latents, session: Session, *, last: bool) -> None:
        """Keep latents after a step."""
        ...

    def inverted(
        self, source: SourceClip, inversion: Inversion, host: Host, decides: Mapping[str, Any]
    ) -> AbstractContextManager[Inverted]:
        """Invert a clip, or find that done; `decides` is what else it depends on."""
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

    notices: list[str] = field(default_factory=list)
    """What of the settings has no effect, or less of one than may be thought; a sentence each, for the record."""

    @contextmanager
    def completed(self) -> Iterator[None]:
        """The model with its LoRAs and embeddings while inside."""
        with nullcontext() if self.additions is None else self.additions.at_work(self.backbone):
            yield

    def notice(self, text: str) -> None:
        """Log a warning of something that has no effect, and keep it for the record."""
        log.warning("%s.", text)
        self.notices.append(f"{text}.")

    @property
    def guidance_scale(self) -> float:
        """As the settings have it, else the model."""
        told = self.settings.guidance_scale
        return getattr(self.backbone.guidance, self.kind) if told is None else told

    def control(self, size: tuple[int, int], first: int, count: int) -> AnyControl | None:
        """What the ControlNets see of frames from `first` on, at (width, height) `size`."""
        if self.conditions is None:
            return None
        self._compare(self.conditions.clip, size, count)
        with self.stopwatch.stage("control"):
            return self.conditions.control(size, first, count, self.progress)

    def _compare(self, clip: VideoInfo | None, size: tuple[int, int], count: int) -> None:
        """Warn of a control's clip of another shape, or of which only a part is shown."""
        if clip is None:
            return
        if abs(math.log(clip.width * size[1] / (clip.height * size[0]))) > SAME_SHAPE:
            self.notice(
                f"the control's clip is {clip.width} x {clip.height} and is stretched to {size[0]} x {size[1]}"
            )
        there = clip.estimated_frame_count
        whole = not isinstance(self.settings, EditSettings) or self.settings.frames == (0, None)
        if whole and there is not None and there > count:
            self.notice(f"of the control's {there} frames, the first {count} are shown")

    @contextmanager
    def adapted(self) -> Iterator[PrefixOf | None]:
        """The adapter, if there is one, at work in the model while inside; yields what goes in front of prompts."""
        if self.adapter is None:
            yield None
            return
        with self.adapter.attached(self.backbone) as prefix:
            yield prefix

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """Those of the run, descending."""
        return self.backbone.schedule.timesteps(self.settings.steps)

    def embedded(self, frames: int, *others: str) -> tuple[torch.Tensor, ...]:
        """The prompt, a row for all frames or one for each where it changes; then a row for each of `others`."""
        schedule = self.settings.schedule
        schedule.check(frames)
        rows = self.backbone.embed([*schedule.texts, *others]).split(1)
        texts = dict(zip(schedule.texts, rows, strict=False))
        if schedule.is_constant:
            return rows
        mixed = [
            sum(
                (texts[text] * share for text, share in schedule.shares(frame).items()),
                torch.zeros_like(rows[0]),
            )
            for frame in range(frames)
        ]
        return torch.cat(mixed), *rows[len(texts) :]

    def written(self, source: str) -> Prompts | None:
        """The prompts as they were written; None where one changes, so that no words are compared."""
        schedule = self.settings.schedule
        return Prompts(source=source, edit=schedule.texts[0]) if schedule.is_constant else None

    @contextmanager
    def moved(self, apart: frozenset[int] = frozenset()) -> Iterator[MotionWindows | None]:
        """The motion modules, if there are some, in the model while inside: in the inversion and the sampling.

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
        """Clean latents of a whole clip."""
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
                if self.kept is not None:
                    self.kept.reach(step, clean, session, last=step == total)
        return clean

    def _taken_up(self, session: Session, start: Latents) -> tuple[Latents, int]:
        """Latents to begin with, and the step: those of a run that was stopped, or the start."""
        reached = None if self.kept is None else self.kept.reached(self.backbone.device)
        if reached is None:
            return start, 0
        if isinstance(session, Carries):
            session.carry_on(reached.carried)
        return reached.latents, reached.steps

    def decode(self, latents: Latents, size: tuple[int, int]) -> Iterator[Pixels]:
        """Frames of the source's size, window by window."""

        def pixels(part: slice) -> Pixels:
            return from_model(self.backbone.decode(latents[part]), size).cpu()

        return self._in_windows(len(latents), size, pixels)

    def decode_beside(
        self, latents: Latents, clean: Latents, size: tuple[int, int]
    ) -> Iterator[tuple[Pixels, Weights]]:
        """The same, each with how much an edit changed every pixel; `clean` are the source's latents."""

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


@dataclass(frozen=True)
class Pipeline(Stages):
    """All that an edit needs, ready."""

    kind: ClassVar[str] = "edit"

    settings: EditSettings
    plain: list[bool] = field(default_factory=list)
    """Of each frame encoded so far, whether it is of one colour."""
    made: Inversion | None = None
    """The inversion, where it is made already."""

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """Those of the run, descending: the last ones, as many as `strength` has it."""
        timesteps = self.backbone.schedule.timesteps(self.settings.steps)
        return timesteps[len(timesteps) - round(self.settings.strength * len(timesteps)) :]

    @cached_property
    def inversion(self) -> Inversion:
        """The way to noise: as made, else as the settings say. Raises: SettingsError for wrong options."""
        return self.made or create_inversion(self.settings)

    def encode(
        self, windows: Iterable[tuple[Pixels, tuple[Fraction, ...]]], size: tuple[int, int], total: int | None
    ) -> tuple[Latents, list[Fraction]]:
        """Latents and timestamps of all frames, which pass through memory window by window."""
        latents: list[Latents] = []
        times: list[Fraction] = []
        self.progress("read and encode", 0, total)
        with self.stopwatch.stage("encode"):
            for pixels, timestamps in windows:
                frames = to_model(pixels, size)
                latents.append(self._encoded(frames, len(times)))
                self.plain.extend(of_one_colour(frames))
                for watching in (self.conditions, self.adapter):
                    if watching is not None:
                        watching.see(frames)
                times.extend(timestamps)
                self.progress("read and encode", len(times), total)
        if self.kept is not None:
            self.kept.encode_to(len(times))
        if len(times) != total:
            self.progress("read and encode", len(times), len(times))
        # autoencoders give another layout in memory, in which the network's last digits differ
        return torch.cat(latents).contiguous(), times

    def _encoded(self, frames: Frames, start: int) -> torch.Tensor:
        if self.kept is None:
            return self.backbone.encode(frames)
        found = self.kept.encoded(start, len(frames))
        if found is not None:
            return found.to(self.backbone.device)
        latents = self.backbone.encode(frames)
        self.kept.encode(start, latents)
        return latents

    @property
    def frames_apart(self) -> frozenset[int]:
        """Frames of one colour, which motion modules do not see among the others."""
        return frozenset(number for number, plain in enumerate(self.plain) if plain)

    def edit(
        self, latents: Latents, control: AnyControl | None = None, region: Region | None = None
    ) -> Latents:
        """Latents of the clip, edited in a region; None is everywhere."""
        if not self.timesteps or (region is not None and region.is_empty):
            return latents
        reached = None if self.kept is None else self.kept.reached(self.backbone.device)
        if reached is not None and reached.last:
            return reached.latents
        with self.completed():
            return self._edited(latents, control, region)

    def _edited(self, latents: Latents, control: AnyControl | None, region: Region | None) -> Latents:
        settings, backbone = self.settings, self.backbone
        prompt, negative, source = self.embedded(
            len(latents), settings.negative_prompt, settings.source_prompt
        )
        frames, channels, height, width = latents.shape
        with (
            exclusive(backbone.unet),
            self.moved(self.frames_apart) as motion,
            self._prepared(latents, source, negative, motion) as (prefix, inverted),
        ):
            job = EditJob(
                shape=(frames, channels, height, width),
                timesteps=inverted.timesteps,
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                null_embeds=inverted.null_embeds,
                source_prompt_embeds=source,
                prompts=self.written(settings.source_prompt),
                source=inverted.trajectory,
                clean=latents,
                guidance_scale=self.guidance_scale,
                seed=settings.seed,
                batch=settings.batch,
                anchor=self.plain.index(False) if False in self.plain else 0,
                control=control,
                prefix=prefix,
                relative=inverted.relative,
                motion=motion,
            )
            added = inverted.noise_on(backbone.device)
            put_back = None if region is None else region.putting_back(inverted.trajectory, latents)
            return self.sample(job, "edit", added, inverted.eta, put_back)

    @contextmanager
    def _prepared(
        self,
        latents: Latents,
        prompt_embeds: PromptEmbeds,
        negative_prompt_embeds: PromptEmbeds,
        motion: MotionWindows | None,
    ) -> Iterator[tuple[PrefixOf | None, Inverted]]:
        """The adapter at work and the clip inverted, in the order that the adapter wants."""
        inverted = self._inverted(latents, prompt_embeds, negative_prompt_embeds, motion)
        with ExitStack() as stack:
            if self.adapter is not None and not self.adapter.adapter.settings.in_inversion:
                noise = stack.enter_context(inverted)
                yield stack.enter_context(self.adapted()), noise
            else:
                prefix = stack.enter_context(self.adapted())
                yield prefix, stack.enter_context(inverted)

    @contextmanager
    def _inverted(
        self,
        latents: Latents,
        prompt_embeds: PromptEmbeds,
        negative_prompt_embeds: PromptEmbeds,
        motion: MotionWindows | None,
    ) -> Iterator[Inverted]:
        settings, backbone = self.settings, self.backbone
        with ExitStack() as stack:
            with self.stopwatch.stage("invert"), inverting(self.host, backbone, len(latents)) as together:
                if motion is not None:
                    motion = motion if together is None else motion.whole(together)
                    together = len(latents)
                source = SourceClip(
                    backbone=backbone,
                    latents=latents,
                    timesteps=self.timesteps,
                    prompt_embeds=prompt_embeds,
                    negative_prompt_embeds=negative_prompt_embeds,
                    guidance_scale=self.guidance_scale,
                    refinement=(settings.inversion_steps or settings.steps) // settings.steps,
                    seed=settings.seed,
                    batch=together or settings.batch,
                    together=together is not None,
                    may_be_relative=tells_relative(self.host)
                    and (self.adapter is None or self.adapter.adapter.settings.in_inversion),
                    motion=motion,
                    progress=self.progress,
                )
                inverted = stack.enter_context(self._found_or_made(source))
            yield inverted

    def _found_or_made(self, source: SourceClip) -> AbstractContextManager[Inverted]:
        if self.kept is None:
            return self.inversion.inverted(source)
        adapter = self.adapter
        in_inversion = adapter is not None and adapter.adapter.settings.in_inversion
        decides = {
            "additions": None if self.additions is None else self.additions.described(),
            "adapter": adapter.described() if adapter is not None and in_inversion else None,
            "motion modules": None if self.motion is None else self.motion.described(),
        }
        return self.kept.inverted(source, self.inversion, self.host, decides)


def of_one_colour(frames: Frames) -> list[bool]:
    """Whether each frame is black, white or of another single colour, but for noise."""
    return (frames.flatten(2).std(-1).amax(1) < NOISE).tolist()


def model_size(
    width: int, height: int, size: int | tuple[int, int] | None, backbone: Backbone
) -> tuple[int, int]:
    """(width, height) at which `backbone` works on frames of `width` x `height`."""
    multiple = backbone.size_multiple
    if isinstance(size, tuple):
        # fit() rounds one side at a time when it is given a picture that has the size already
        return fit(*size, None, multiple)
    shorter = size or backbone.native_size
    stretch = max(width, height) / min(width, height)
    if stretch > LARGEST_ASPECT:
        shorter = max(multiple, round(shorter * (LARGEST_ASPECT / stretch) ** 0.5))
        # Beyond what the model's multiple allows, the long side gives way; the way back stretches it again.
        longer = min(
            round(shorter * stretch), round((size or backbone.native_size) ** 2 * LARGEST_ASPECT / shorter)
        )
        width, height = (longer, shorter) if width > height else (shorter, longer)
        return fit(width, height, None, multiple)
    return fit(width, height, shorter, multiple)


def window_length(width: int, height: int, batch: int) -> int:
    """Frames of a size that are read, or written, at once."""
    return max(1, min(batch, WINDOW_PIXELS // (width * height)))


@contextmanager
def memory_errors_explained(settings: RunSettings | None = None) -> Iterator[None]:
    """Turn running out of memory, in a run of `settings` if there are any, into advice."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(_out_of_memory(settings)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error) and "not enough memory" not in str(error):
            raise
        raise ResourceError(_out_of_memory(settings)) from error


BATCH_IS_MEMORY = ("frame", "text2video_zero")
"""Hosts with which the result does not depend on which frames pass together."""


def _out_of_memory(settings: RunSettings | None) -> str:
    if settings is None:
        return f"memory ran out; use fewer {argument('frames')}."
    ways = [f"a smaller {argument('size')}", f"fewer {argument('frames')}"]
    if settings.dtype in ("auto", "float32"):
        device = choose_device(settings.device)
        in_four_bytes = choose_dtype(settings.dtype, device) is torch.float32
        if in_four_bytes and not is_slow(torch.bfloat16, device):
            ways.append(f"{argument('dtype')} bfloat16")
    batch = f"a smaller {argument('batch')}"
    others = f"{', '.join(ways[:-1])}, or {ways[-1]}"
    if settings.host in BATCH_IS_MEMORY and getattr(settings, "inversion", None) != "bilateral":
        return (
            f"memory ran out; use {batch}, which leaves the result as it is, or, for another one, {others}."
        )
    return f"memory ran out; use {batch}, {others}, each of which may change the result."
