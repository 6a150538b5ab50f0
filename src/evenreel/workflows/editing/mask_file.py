"""The part of a clip that a change of prompts concerns, as a mask that `--mask` takes."""

import logging
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError, argument
from evenreel.files import shown
from evenreel.ops.regions import Part
from evenreel.outputs import Outputs, check_name
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.types import Pixels
from evenreel.video import VideoWriter
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.editing.computing.pipeline import placed
from evenreel.workflows.editing.computing.scenes import scenes_of
from evenreel.workflows.editing.computing.sizes import model_size
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.regions.places import opened_regions
from evenreel.workflows.editing.regions.words_mask import mask_along
from evenreel.workflows.editing.setup.callers import own_numbers
from evenreel.workflows.editing.setup.opening import edit_pipeline, expected_frames, open_source, opened_mask
from evenreel.workflows.editing.setup.run_setup import check_apart

log = logging.getLogger(__name__)


def mask_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: EditSettings,
    *,
    progress: Progress = silent,
    backbone: Backbone | None = None,
    download: bool = False,
) -> list[float]:
    """Write the region that an edit of `source` with these settings would change, white on black.

    With `settings.mask_frame` that is what was painted on this frame, carried along the clip, and with
    `settings.mask_words` what these words say; no Stable Diffusion is needed.
    Returns the share of each frame that would stay. In a folder of images the mask is exact: an edit that is given it
    is the edit without, bit for bit; not so with regions, whose prompts are each followed beyond their place while one
    is edited. Raises: SettingsError where there is nothing to find, and any EvenreelError.
    """
    if settings.mask_frame is not None or settings.mask_words is not None:
        if settings.region:
            raise SettingsError(
                f"{argument('region')} has no part in a mask that is followed along the clip; leave it out."
            )
        return _carried(source, Path(output), settings, progress)
    if settings.keep == "off" or settings.mask is not None or not settings.source_prompt.split():
        raise SettingsError(
            f"a mask is found by comparing {argument('prompt')} and {argument('source_prompt')}; give both, without "
            f"{argument('mask')}, and leave {argument('keep')} on auto."
        )
    target = Path(output)
    check_name(target)
    stream = open_source(source, settings)
    info = stream.info
    size = info.width, info.height
    regions = opened_regions(settings.region, *size)
    check_apart((info, *(one.info for one in regions)), target)
    with (
        own_numbers(),
        memory_errors_explained(settings.host, settings.inversion, settings.dtype, settings.device),
        Outputs(target) as outputs,
    ):
        writer = VideoWriter(target, *size, outputs=outputs)
        expected = expected_frames(info, *settings.frames)
        pipeline = edit_pipeline(settings, backbone, progress, expected, download=download)
        with writer:
            latents, times = pipeline.encode(
                stream, model_size(*size, settings.size, pipeline.backbone), expected, settings.frames[0]
            )
            whole = settings.frames == (0, None)
            pipeline = placed(pipeline, regions, latents, settings.frames[0], whole=whole)
            region = region_of(pipeline, latents, settings.frames[0])
            if region is None or region.is_empty:
                raise SettingsError(
                    f"the prompts change {'nothing' if region else 'all'} of {shown(info.path)}, so that there is no "
                    "mask to write; edit it without one."
                )
            _write(writer, region.parts(size, stream.window), times, stream.end_time)
    return region.shares


def _carried(
    source: str | os.PathLike[str], target: Path, settings: EditSettings, progress: Progress
) -> list[float]:
    """Write what was painted on one frame, or what words say, in all frames."""
    check_name(target)
    stream = open_source(source, settings)
    info, first = stream.info, settings.frames[0]
    size = info.width, info.height
    mask = opened_mask(settings, *size)
    check_apart((info,) if mask is None else (info, mask.info), target)
    with Outputs(target) as outputs:
        writer = VideoWriter(target, *size, outputs=outputs)
        with writer:
            scenes, times = scenes_of(stream, settings, progress)

            def frames() -> Iterator[Pixels]:
                return (pixels for pixels, _ in stream)

            told = scenes, settings.device, progress, log.warning
            carried = mask_along(settings, mask, first, frames, *told)
            shares: list[float] = []
            _write(
                writer,
                _counted(carried.parts(first, len(times), stream.window), shares),
                times,
                stream.end_time,
            )
    return shares


def _counted(parts: Iterable[Part], shares: list[float]) -> Iterator[Part]:
    """Pass masks on, and note the share of each that is black."""
    for part in parts:
        shares.extend(float(black.float().mean()) for black in ~part)
        yield part


def _write(
    writer: VideoWriter, parts: Iterable[Part], times: list[Fraction], end_time: Fraction | None
) -> None:
    for part in parts:
        pixels: Pixels = part[..., None].expand(-1, -1, -1, 3).byte() * 255
        start, end = writer.frame_count, writer.frame_count + len(part)
        writer.write(pixels.contiguous(), times[start:end], end_time if end == len(times) else None)
    writer.finish()
