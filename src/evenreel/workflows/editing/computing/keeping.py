"""Where an edit is needed: the places at which the model sees a difference between the two prompts.

The source is noised, and its noise is predicted once for each prompt; where the predictions agree, the prompts ask for
the same (DiffEdit, arXiv:2210.11427). What counts as a difference is told in `differences`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from evenreel import random
from evenreel.backbones.sharing import exclusive
from evenreel.diffusion import ddim
from evenreel.hosts.base import EditJob
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.prediction import moving, predict_in_windows
from evenreel.ops.prompt_changes import changes_apart, is_another_thing
from evenreel.ops.regions import Part, Places
from evenreel.scratch import joined, pieces, piecewise, room
from evenreel.types import Latents
from evenreel.workflows.editing.computing.differences import (
    Difference,
    agreement,
    averaged,
    concerned,
    is_doubtful,
    is_everywhere,
    lengths_of,
)
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.computing.sizes import window_length
from evenreel.workflows.editing.regions.places import holds
from evenreel.workflows.editing.regions.region import MaskClip, Region
from evenreel.workflows.editing.regions.words_mask import mask_along

TIMESTEPS = (300, 700)
"""Training timesteps, of 1000, at whose noise levels the prompts are compared."""
FEW = 4
"""Frames in which several changes are asked for one by one."""
LITTLE = 0.2
"""Agreement of cells that change, below which another thing has another shape: a colour takes them all the same way."""


class Compared(NamedTuple):
    """What a model makes of two prompts."""

    difference: Difference
    """On average over TIMESTEPS."""
    agreement: float
    """How alike the cells change that change most, at the first of them: 1 is by the same."""


class Meant(NamedTuple):
    """What a change of prompts is about, in a scene."""

    cells: Part | None
    """None is all of them."""
    reshapes: bool
    """Whether it is another thing, of another shape, and nothing else."""


def region_of(
    pipeline: Pipeline,
    latents: Latents,
    first: int = 0,
    mask: MaskClip | None = None,
    *,
    windows: Callable[[], Iterable[Tensor]] = tuple,
    whole: bool = True,
) -> Region | None:
    """Find where a clip is to be edited, as its mask says or else the prompts; None is everywhere.

    `latents` are the clip's without noise, `first` is the number of the first one in the source, and `whole` says
    whether they are all of it. `windows` gives the clip's frames, as often as it is called, for masks that are carried
    along them. Raises: SettingsError for a mask that does not suit the clip, WeightsError for models of masks.
    """
    settings = pipeline.settings
    frames, _, height, width = latents.shape
    if mask is not None and settings.mask_frame is None:
        window = window_length(mask.info.width, mask.info.height, settings.batch)
        return Region(mask.cells(first, frames, window, (height, width), whole=whole), first, mask)
    if mask is not None or settings.mask_words is not None:
        with pipeline.stopwatch.stage("carry"):
            told = pipeline.progress, pipeline.notice
            found = mask_along(
                settings, mask, first, windows, pipeline.scenes(frames), pipeline.backbone.device, *told
            )
        window = window_length(found.size[1], found.size[0], settings.batch)
        return Region(found.cells(first, frames, window, (height, width)), first, found)
    found = (
        _of_prompt(pipeline, latents, first)
        if pipeline.places is None
        else _of_places(pipeline, latents, first, pipeline.places)
    )
    if found is not None and found.is_empty:
        named = "prompt" if pipeline.places is None else "prompts"
        pipeline.notice(
            f"{named} and source prompt are the same, so nothing changes and the result is the source"
        )
    return found


def _of_prompt(pipeline: Pipeline, latents: Latents, first: int) -> Region | None:
    """Find where a clip is to be edited, as its one prompt has it."""
    settings = pipeline.settings
    frames, _, height, width = latents.shape
    if not settings.schedule.is_constant:
        return None  # what changes with the prompt is another place at each frame
    words, source_words = settings.schedule.texts[0].split(), settings.source_prompt.split()
    if settings.keep == "off" or not source_words or settings.lora or settings.control:
        return None
    if words == source_words:
        return Region(torch.zeros(frames, height, width, dtype=torch.bool), first)
    scenes = pipeline.scenes(frames)
    with pipeline.stopwatch.stage("compare"):
        found = [compared(pipeline.scene(part, frames), latents[part]) for part in scenes]
    everywhere = [part for part, meant in zip(scenes, found, strict=True) if meant.cells is None]
    if len(everywhere) == len(scenes):
        return None

    def cells() -> Iterator[Tensor]:
        for part, meant in zip(scenes, found, strict=True):
            everything = torch.ones_like(latents[part, 0], dtype=torch.bool).cpu()
            yield everything if meant.cells is None else meant.cells

    reshaped = tuple(part for part, meant in zip(scenes, found, strict=True) if meant.reshapes)
    return Region(joined(cells(), frames), first, everywhere=tuple(everywhere), reshaped=reshaped)


def _of_places(pipeline: Pipeline, latents: Latents, first: int, places: Places) -> Region | None:
    """Find where a clip with several prompts is to be edited: in each cell, as its own prompt alone has it."""
    numbers = range(len(pipeline.settings.schedules))
    apart = tuple(
        _of_prompt(pipeline.of_prompt(number), latents, first) if holds(places, number) else None
        for number in numbers
    )

    def is_everywhere_in(scene: slice) -> bool:
        return all(
            one is None or scene in one.everywhere
            for number, one in enumerate(apart)
            if holds(places[scene], number)
        )

    scenes = pipeline.scenes(len(places))
    everywhere = tuple(filter(is_everywhere_in, scenes))
    if len(everywhere) == len(scenes):
        return None

    def cells(part: slice) -> Tensor:
        found = torch.ones_like(places[part], dtype=torch.bool)
        for number, one in enumerate(apart):
            if one is not None:
                found &= one.cells[part] | (places[part] != number)
        return found

    edited = joined(map(cells, pieces(places)), len(places))
    return Region(edited, first, everywhere=everywhere, of_prompts=apart)


def compared(pipeline: Pipeline, latents: Latents) -> Meant:
    """Find what the change of prompts is about, in a scene."""
    settings = pipeline.settings
    prompt = settings.schedule.texts[0]
    difference, alike = prompt_difference(pipeline, latents, prompt)
    cells = concerned(difference)
    if cells is None:
        return Meant(None, reshapes=False)
    if is_doubtful(difference):
        alone = (averaged(found.difference) for found in each_alone(pipeline, latents))
        if any(map(is_everywhere, alone)):
            return Meant(None, reshapes=False)
    return Meant(cells, alike < LITTLE and is_another_thing(settings.source_prompt, prompt))


def each_alone(pipeline: Pipeline, latents: Latents) -> Iterator[Compared]:
    """Compare each of several changes of words by itself, in a few frames from the middle of a scene."""
    settings, start = pipeline.settings, max(0, (len(latents) - FEW) // 2)
    part = slice(start, start + FEW)
    few = replace(pipeline, plain=pipeline.plain[part])
    for prompt in changes_apart(settings.source_prompt, settings.schedule.texts[0]):
        yield prompt_difference(few, latents[part], prompt)


def prompt_difference(pipeline: Pipeline, latents: Latents, prompt: str) -> Compared:
    """Compare what a model makes of a noised clip with its source prompt and with another, in all its cells.

    The noise follows from the seed; hosts, adapters and the inversion have no part in it.
    """
    settings, backbone = pipeline.settings, pipeline.backbone
    with pipeline.completed(), exclusive(backbone.unet), pipeline.moved(pipeline.frames_apart) as motion:
        prompts = backbone.embed([settings.source_prompt, prompt])
        total = room((len(latents), *latents.shape[2:]), torch.float32).zero_()
        pipeline.progress("compare prompts", 0, len(TIMESTEPS))
        alike = 1.0
        for done, timestep in enumerate(TIMESTEPS, 1):
            difference = _difference(pipeline, latents, prompts, timestep, motion)
            total += piecewise(lengths_of, difference)
            if timestep == TIMESTEPS[0]:
                alike = agreement(difference)
            pipeline.progress("compare prompts", done, len(TIMESTEPS))
    return Compared(total.div_(len(TIMESTEPS)), alike)


@torch.inference_mode()
def _difference(
    pipeline: Pipeline, latents: Latents, prompts: Tensor, timestep: int, motion: MotionWindows | None
) -> Latents:
    backbone, settings = pipeline.backbone, pipeline.settings
    frames, channels, height, width = latents.shape
    source, edit = prompts.split(1)
    job = EditJob(
        shape=(frames, channels, height, width),
        timesteps=(timestep,),
        prompt_embeds=edit,
        negative_prompt_embeds=source,
        source_prompt_embeds=source,
        batch=settings.batch,
        motion=motion,
    )
    drawn = (
        torch.randn((1, channels, height, width), generator=random.generator(settings.seed, timestep, frame))
        for frame in range(frames)
    )
    noise = joined((row.to(latents) for row in drawn), frames)
    noisy = ddim.add_noise(latents, noise, backbone.schedule.alpha(timestep))

    def predict(chosen: Sequence[int]) -> Latents:
        rows = noisy[list(chosen)].to(backbone.device)  # those of a long clip lie elsewhere
        with moving(job, len(chosen)):
            before, after = backbone.predict_noise(torch.cat([rows, rows]), timestep, prompts).chunk(2)
        return after - before

    return predict_in_windows(job, noisy, timestep, predict)
