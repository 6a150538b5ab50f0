"""The part of a clip that a change of prompts concerns, as a mask that `--mask` takes."""

import os
from fractions import Fraction
from pathlib import Path

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError, argument
from evenreel.files import shown
from evenreel.outputs import Outputs, check_name
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.types import Pixels
from evenreel.video import VideoWriter
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.editing.computing.sizes import model_size
from evenreel.workflows.editing.edit import edit_pipeline, expected_frames, open_source
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.regions.region import Region
from evenreel.workflows.editing.setup.callers import own_numbers
from evenreel.workflows.editing.setup.run_setup import check_apart


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

    Returns the share of each frame that would stay. In a folder of images the mask is exact: an edit that is given it
    is the edit without, bit for bit. Raises: SettingsError where there is nothing to find, and any EvenreelError.
    """
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
    check_apart((info,), target)
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
            region = region_of(pipeline, latents, settings.frames[0])
            if region is None or region.is_empty:
                raise SettingsError(
                    f"the prompts change {'nothing' if region else 'all'} of {shown(info.path)}, so that there is no "
                    "mask to write; edit it without one."
                )
            _write(writer, region, size, stream.window, times, stream.end_time)
    return region.shares


def _write(
    writer: VideoWriter,
    region: Region,
    size: tuple[int, int],
    window: int,
    times: list[Fraction],
    end_time: Fraction | None,
) -> None:
    for part in region.parts(size, window):
        pixels: Pixels = part[..., None].expand(-1, -1, -1, 3).byte() * 255
        start, end = writer.frame_count, writer.frame_count + len(part)
        writer.write(pixels.contiguous(), times[start:end], end_time if end == len(times) else None)
    writer.finish()
