"""The numbers of an edit: pixels to latents, noise and back, on a model and a host that are there already.

Memory is bounded by windows of frames: what is as long as the clip goes to disk when it is large. Scenes are edited one
by one.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import torch

from evenreel.backbones.control import AnyControl
from evenreel.backbones.sharing import exclusive
from evenreel.diffusion.inversion import Inverted
from evenreel.hosts.base import EditJob, PrefixOf, inverting, keeps_source_rows, tells_relative
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.source_rows import NoRows, SourceRows
from evenreel.inversions.base import Inversion, SourceClip, create_inversion
from evenreel.jobs import places
from evenreel.jobs.source_rows import SourcePages
from evenreel.ops.cuts import CutFinder
from evenreel.ops.regions import Cells, Places
from evenreel.progress import Progress
from evenreel.scratch import Growing, joined, pieces, piecewise
from evenreel.settings import EditSettings
from evenreel.types import Frames, Latents, Pixels, PromptEmbeds
from evenreel.video import to_model
from evenreel.workflows.editing.computing.scenes import parted, told_cuts
from evenreel.workflows.editing.computing.sizes import window_length
from evenreel.workflows.editing.computing.stages import Stages
from evenreel.workflows.editing.regions.places import places_of
from evenreel.workflows.editing.regions.region import MaskClip, Region, chosen

NOISE = 4 / 255
"""Standard deviation of a colour that frames of one colour may have: what codecs leave."""


@dataclass(frozen=True)
class Pipeline(Stages):
    """All that an edit needs, ready."""

    kind: ClassVar[str] = "edit"

    settings: EditSettings
    plain: list[bool] = field(default_factory=list)
    """Of each frame encoded so far, whether it is of one colour."""
    cuts: list[int] = field(default_factory=list)
    """Numbers of the encoded frames, from 0, at which other scenes begin than the first."""
    made: Inversion | None = None
    """The inversion, where it is made already."""
    places: Places | None = None
    """Of each cell of the clip's latents, which prompt it follows; None where there are no regions with prompts."""
    frames: int | None = None
    """How many frames the clip has of which this is a scene; None where it is all of it."""

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """Those of the run, descending: the last ones, as many as `strength` has it."""
        timesteps = self.backbone.schedule.timesteps(self.steps)
        return timesteps[len(timesteps) - round(self.settings.strength * len(timesteps)) :]

    @cached_property
    def inversion(self) -> Inversion:
        """The way to noise: as made, else as the settings say. Raises: SettingsError for wrong options."""
        return self.made or create_inversion(self.settings)

    def encode(
        self,
        windows: Iterable[tuple[Pixels, tuple[Fraction, ...]]],
        size: tuple[int, int],
        total: int | None,
        first: int = 0,
    ) -> tuple[Latents, list[Fraction]]:
        """Return latents and timestamps of all frames, which pass through memory window by window.

        `first` is the number of the first one in the source. Raises: SettingsError for cuts behind the last one.
        """
        latents, finder = Growing(), CutFinder(self.settings.cut_threshold)
        times: list[Fraction] = []
        self.progress("read and encode", 0, total)
        with self.stopwatch.stage("encode"):
            for pixels, timestamps in self.stopwatch.each("read", windows):
                frames = to_model(pixels, size)
                latents.append(self._encoded(frames, len(times)))
                self.plain.extend(of_one_colour(frames))
                if self.settings.cuts == "auto":
                    finder.see(frames)
                for watching in (self.conditions, self.adapter):
                    if watching is not None:
                        watching.see(frames)
                times.extend(timestamps)
                self.progress("read and encode", len(times), total)
        to_the_end = self.settings.frames[1] is None
        self.cuts.extend(told_cuts(self.settings.cuts, first, len(times), finder, to_the_end=to_the_end))
        if self.kept is not None:
            self.kept.encode_to(len(times))
        if len(times) != total:
            self.progress("read and encode", len(times), len(times))
        return latents.tensor(), times

    def scenes(self, count: int) -> list[slice]:
        """Cut a clip of `count` frames where scenes begin."""
        return parted(self.cuts, count)

    def scene(self, part: slice, count: int) -> "Pipeline":
        """Return what edits some of `count` frames as if they were all there is."""
        if part == slice(0, count):
            return self
        return replace(
            self,
            plain=self.plain[part],
            cuts=[],
            first=part.start,
            frames=count,
            places=None if self.places is None else self.places[part],
            adapter=None if self.adapter is None else replace(self.adapter, part=part),
            kept=None if self.kept is None else self.kept.of_scene(part.start),
            progress=self._progress_of(part),
        )

    def _progress_of(self, part: slice) -> Progress:
        """Progress that says of stages in which scene they are."""
        number = self.cuts.index(part.start) + 2 if part.start else 1
        return _numbered(self.progress, "scene", number, len(self.cuts) + 1)

    def of_prompt(self, number: int) -> "Pipeline":
        """Return what edits the same clip with one prompt alone: 0 is the clip's, n that of the n-th region."""
        prompts = len(self.settings.schedules)
        return replace(
            self,
            settings=self.settings.of_prompt(number),
            places=None,
            kept=None if self.kept is None else self.kept.of_prompt(number),
            progress=_numbered(self.progress, "prompt", number + 1, prompts),
        )

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
        """Return latents of the clip, edited in a region; None is everywhere. Each scene is edited as if it were
        alone."""
        count = len(latents)
        self.settings.check_changes(count)
        scenes = self.scenes(count)
        if len(scenes) == 1:
            return self.edit_scene(latents, control, region)
        edited = (
            self.scene(part, count).edit_scene(
                latents[part],
                None if control is None else control.part(part),
                None if region is None else region.part(part),
            )
            for part in scenes
        )
        return joined(edited, count)

    def edit_scene(self, latents: Latents, control: AnyControl | None, region: Region | None) -> Latents:
        """Return latents of one scene, edited; where regions have prompts of their own, each cell by its prompt."""
        if not self.timesteps or (region is not None and region.is_empty):
            return latents
        if self.places is not None:
            return self._edited_by_places(latents, control, region, self.places)
        reached = None if self.kept is None else self.kept.reached(self.backbone.device)
        if reached is not None and reached.last:
            return reached.latents
        with self.completed():
            return self._edited(latents, control, region)

    def reshapes(self, region: Region) -> bool:
        """Tell whether another shape is asked for there, and nothing else, of a model of which it was measured what
        that takes."""
        return self.measured is not None and bool(region.reshaped)

    def _edited_by_places(
        self, latents: Latents, control: AnyControl | None, region: Region | None, places: Places
    ) -> Latents:
        """Latents of edits with each prompt alone, of which every cell takes that of the prompt that it follows.

        Nothing passes from one to another: mixing them earlier, in attention or in noise predictions, lets colours of
        one place run into the next (docs/regions.md). All have the same source and the same noise, and so fit.
        """
        made = latents
        for number in range(len(self.settings.schedules)):
            follows = piecewise(lambda cells, number=number: cells == number, places)
            if not _any(follows if region is None else piecewise(torch.logical_and, follows, region.cells)):
                continue  # no place, or none that this prompt changes
            where = None if region is None else region.of_prompt(number)
            edited = self.of_prompt(number).edit_scene(latents, control, where)
            made = piecewise(chosen, follows, edited, made)
        return made

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
            self._source_rows() as source_rows,
        ):
            job = EditJob(
                shape=(frames, channels, height, width),
                timesteps=inverted.timesteps,
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                null_embeds=inverted.null_embeds,
                source_prompt_embeds=source,
                prompts=self.written(frames, settings.source_prompt),
                source=inverted.trajectory,
                clean=latents,
                guidance_scale=self.guidance_scale,
                guidance_interval=self.guided_timesteps,
                seed=settings.seed,
                batch=settings.batch,
                anchor=self.plain.index(False) if False in self.plain else 0,
                place=None if self.frames is None else (self.first, self.frames),
                control=control,
                prefix=prefix,
                relative=inverted.relative,
                reshapes=region is not None and self.reshapes(region),
                source_rows=source_rows,
                motion=motion,
            )
            added = inverted.noise_on(backbone.device)
            put_back = None if region is None else region.putting_back(inverted.trajectory, latents)
            return self.sample(job, "edit", added, inverted.eta, put_back)

    @contextmanager
    def _source_rows(self) -> Generator[SourceRows | None]:
        """Where the source's rows lie, once it is inverted; None where they pass with the edit's."""
        if not self.settings.reuse_source:
            yield None
            return
        if not keeps_source_rows(self.host) or self.adapter is not None:
            what = "an adapter" if self.adapter is not None else f"host {self.host.name}"
            self.notice(f"with {what} nothing of the source is kept for other prompts")
            yield None
            return
        if self.kept is None:
            self.notice("an edit without a job keeps nothing of the source for other prompts")
            yield NoRows()
            return
        with self.kept.source_rows(self.host, self.settings) as rows:
            if isinstance(rows, NoRows):
                self.notice("another edit uses what is kept of the source, so this one computes it again")
            yield rows
            if isinstance(rows, SourcePages) and rows.declined:
                self.notice(
                    f"the cache has no room for {rows.declined} of the source's network calls, which other prompts "
                    f"compute again; a larger {places.LIMIT} has"
                )

    @contextmanager
    def _prepared(
        self,
        latents: Latents,
        prompt_embeds: PromptEmbeds,
        negative_prompt_embeds: PromptEmbeds,
        motion: MotionWindows | None,
    ) -> Generator[tuple[PrefixOf | None, Inverted]]:
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
    ) -> Generator[Inverted]:
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
                    refinement=(settings.inversion_steps or self.steps) // self.steps,
                    cache_interval=settings.cache_interval,
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


def _numbered(told: Progress, what: str, number: int, count: int) -> Progress:
    """Progress that says of stages in which of several parts they are."""

    def progress(stage: str, done: int, total: int | None) -> None:
        told(f"{stage}{',' if ': ' in stage else ':'} {what} {number} of {count}", done, total)

    return progress


def _any(cells: Cells) -> bool:
    return any(bool(cells[part].any()) for part in pieces(cells))


def of_one_colour(frames: Frames) -> list[bool]:
    """Tell whether each frame is black, white or of another single colour, but for noise."""
    return (frames.flatten(2).std(-1).amax(1) < NOISE).tolist()


def placed(
    pipeline: Pipeline, regions: Sequence[MaskClip], latents: Latents, first: int, *, whole: bool
) -> Pipeline:
    """Return what edits the same clip with regions that follow prompts of their own, which masks show.

    `latents` are the clip's, `first` is the number of the first one in the source, and `whole` says whether they are
    all of it. Raises: SettingsError for masks that do not suit the clip.
    """
    if not regions:
        return pipeline
    frames, _, height, width = latents.shape
    window = window_length(regions[0].info.width, regions[0].info.height, pipeline.settings.batch)
    found = places_of(regions, first, frames, window, (height, width), whole=whole, notice=pipeline.notice)
    return replace(pipeline, places=found)
