"""Where an edit is needed: the places at which the model sees a difference between the two prompts.

The source is noised, and its noise is predicted once for each prompt; where the predictions agree, the prompts ask for
the same (DiffEdit, arXiv:2210.11427). What counts as a difference is an absolute threshold, learnt on clips whose right
answer is known (benchmarks/regions.py), and so is when everything is meant (docs/regions.md).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from jaxtyping import Float
from torch import Tensor

from evenreel import random
from evenreel.backbones.sharing import exclusive
from evenreel.diffusion import ddim
from evenreel.hosts.base import EditJob, moving, predict_in_windows
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.ops.prompt_changes import changes_apart
from evenreel.ops.regions import Part, Places
from evenreel.scratch import is_long, joined, pieces, piecewise, room
from evenreel.types import Latents
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.computing.sizes import window_length
from evenreel.workflows.editing.regions.places import holds
from evenreel.workflows.editing.regions.region import MaskClip, Region
from evenreel.workflows.editing.regions.words_mask import mask_along

Difference = Float[Tensor, "frames height width"]
"""Root of the mean square, over channels, of the difference of two noise predictions."""

TIMESTEPS = (300, 700)
"""Training timesteps, of 1000, at whose noise levels the prompts are compared."""
CALM, BUSY = 0.2, 0.95
"""Shares of a clip's cells: by how much the calmest of them differ, at most, and by how much all but the busiest."""
SPILL = 0.056
"""Of what the busiest cells differ by, how much cells differ by that nobody means: a prompt is read as a whole."""
ALL = 0.018
"""What the calmest cells differ by beyond that, from which on everything is meant: a change of style or background is
one of all places."""
DOUBT = 0.02
"""Difference of the calmest cells beyond which each of several changes is asked for by itself: one of all places may
hide beside a strong one of a part."""
FEW = 4
"""Frames in which that is done."""
SMALLEST, LEAST = 0.08, 0.02
"""Difference from which a place is meant, where not everything is; and the least, where a change is slight."""
SLIGHT = 0.4
"""Where a change is slight, the share of the busiest cells' difference from which a place is meant."""
MOST = 0.8
"""Share of a clip's cells beyond which everything is meant. To edit too much costs little, and to keep what should
change costs all."""


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
    everywhere = [part for part, cells in zip(scenes, found, strict=True) if cells is None]
    if len(everywhere) == len(scenes):
        return None

    def cells() -> Iterator[Tensor]:
        for part, of_scene in zip(scenes, found, strict=True):
            yield torch.ones_like(latents[part, 0], dtype=torch.bool).cpu() if of_scene is None else of_scene

    return Region(joined(cells(), frames), first, everywhere=tuple(everywhere))


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


def compared(pipeline: Pipeline, latents: Latents) -> Part | None:
    """Return the cells of a scene that the change of prompts is about; None where it is about all of them."""
    difference = prompt_difference(pipeline, latents, pipeline.settings.schedule.texts[0])
    cells = concerned(difference)
    if cells is None or not is_doubtful(difference):
        return cells
    alone = map(averaged, each_alone(pipeline, latents))
    return None if any(map(is_everywhere, alone)) else cells


def each_alone(pipeline: Pipeline, latents: Latents) -> Iterator[Difference]:
    """Compare each of several changes of words by itself, in a few frames from the middle of a scene."""
    settings, start = pipeline.settings, max(0, (len(latents) - FEW) // 2)
    part = slice(start, start + FEW)
    few = replace(pipeline, plain=pipeline.plain[part])
    for prompt in changes_apart(settings.source_prompt, settings.schedule.texts[0]):
        yield prompt_difference(few, latents[part], prompt)


def prompt_difference(pipeline: Pipeline, latents: Latents, prompt: str) -> Difference:
    """Compare what a model makes of a noised clip with its source prompt and with another, in all its cells.

    The noise follows from the seed; hosts, adapters and the inversion have no part in it.
    """
    settings, backbone = pipeline.settings, pipeline.backbone
    with pipeline.completed(), exclusive(backbone.unet), pipeline.moved(pipeline.frames_apart) as motion:
        prompts = backbone.embed([settings.source_prompt, prompt])
        total = room((len(latents), *latents.shape[2:]), torch.float32).zero_()
        pipeline.progress("compare prompts", 0, len(TIMESTEPS))
        for done, timestep in enumerate(TIMESTEPS, 1):
            difference = _difference(pipeline, latents, prompts, timestep, motion)
            total += piecewise(lambda rows: rows.float().square().mean(1).sqrt().cpu(), difference)
            pipeline.progress("compare prompts", done, len(TIMESTEPS))
    return total.div_(len(TIMESTEPS))


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


def averaged(difference: Difference) -> Difference:
    """Average over three neighbours each way, in place and time, or as many as there are."""
    return _along(_averaged, difference)


def _averaged(difference: Difference) -> Difference:
    # Padded before: pooling refuses clips of fewer frames than it looks at.
    both = F.pad(torch.stack([difference, torch.ones_like(difference)])[:, None], (1,) * 6)
    sums, counts = F.avg_pool3d(both, 3, 1)[:, 0]
    return sums / counts


def _grown(part: Part) -> Part:
    return F.max_pool3d(part[None, None].float(), 3, 1, 1)[0, 0] > 0


def _along(function: Callable[[Tensor], Tensor], clip: Tensor) -> Tensor:
    """Compute what looks at the frames beside each, some frames of a clip at a time."""

    def parts() -> Iterator[Tensor]:
        for part in pieces(clip):
            first = max(0, part.start - 1)
            yield function(clip[first : part.stop + 1])[part.start - first :][: part.stop - part.start]

    return joined(parts(), len(clip))


def calmest(difference: Difference) -> float:
    """Return how much those places of a clip differ, at most, that differ least: a share of CALM of all."""
    return smallest_of(difference, math.ceil(CALM * difference.numel()))


def busiest(difference: Difference) -> float:
    """Return how much those places of a clip differ, at least, that differ most: all but a share of BUSY."""
    return smallest_of(difference, math.ceil(BUSY * difference.numel()))


def is_everywhere(difference: Difference) -> bool:
    """Tell whether a difference, averaged already, is one of all places."""
    return calmest(difference) - SPILL * busiest(difference) > ALL


def is_doubtful(difference: Difference) -> bool:
    """Tell whether a change of all places may hide in a difference beside one of a part."""
    return calmest(averaged(difference)) > DOUBT


def smallest_meant(difference: Difference, smallest: float = SMALLEST) -> float:
    """Return the difference from which a place is meant, of a difference that is averaged already: `smallest`, or less
    where a change is slight."""
    return max(LEAST, min(smallest, SLIGHT * busiest(difference)))


def concerned(difference: Difference, smallest: float = SMALLEST) -> Part | None:
    """Return the cells that a change is about; None where it is about all of them, or where no place stands out.

    What is found is grown by a cell and by a frame: what moves, and what takes another shape, is covered where it was
    and where it will be.
    """
    near = averaged(difference)
    if is_everywhere(near):
        return None
    meant = smallest_meant(near, smallest)
    cells = _along(_grown, piecewise(lambda rows: rows > meant, near))
    share = sum(int(cells[part].sum()) for part in pieces(cells)) / cells.numel()
    return cells if 0 < share <= MOST else None


def smallest_of(numbers: Tensor, rank: int) -> float:
    """Return the `rank`-th smallest, from 1, of float32 numbers that are not negative, without sorting them."""
    if not is_long(numbers):
        return float(numbers.flatten().kthvalue(rank).values)
    # the bits of such numbers, read as integers, are in the numbers' own order: first their upper half, then the lower
    upper, below = _bin(numbers, rank, lambda bits: bits >> 16)
    lower, _ = _bin(numbers, rank - below, lambda bits: bits[bits >> 16 == upper] & 0xFFFF)
    return float(torch.tensor(upper << 16 | lower, dtype=torch.int32).view(torch.float32))


def _bin(numbers: Tensor, rank: int, value: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """Which of 65,536 values the `rank`-th smallest has, and how many are smaller than that value."""
    counts = sum(
        torch.bincount(value(numbers[part].contiguous().view(torch.int32)).flatten(), minlength=2**16)
        for part in pieces(numbers)
    )
    assert isinstance(counts, Tensor), "there are numbers"
    reached = counts.cumsum(0)
    found = int(torch.searchsorted(reached, rank))
    return found, int(reached[found] - counts[found])
