"""An edit of a clip: files in and files out, or clips in memory."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import torch

from evenreel.backbones import Backbone
from evenreel.errors import OutputError, SettingsError, argument
from evenreel.jobs import inversions
from evenreel.jobs.job import Job, forget_oldest
from evenreel.outputs import Outputs
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.types import Pixels
from evenreel.video import Clip, VideoInfo, VideoWriter, WriteSettings
from evenreel.video.hashing import hash_of
from evenreel.workflows.editing.computing.keeping import region_of
from evenreel.workflows.editing.computing.pipeline import Pipeline, placed
from evenreel.workflows.editing.computing.sizes import model_size, window_length
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.failures.rescue import with_pictures_kept
from evenreel.workflows.editing.records import job_use, record
from evenreel.workflows.editing.records.job_use import Keeping
from evenreel.workflows.editing.records.profile import metered
from evenreel.workflows.editing.records.record import FileResult, RecordedClip
from evenreel.workflows.editing.regions.mask_models import described_models
from evenreel.workflows.editing.regions.mask_strip import save_strip, strip_path
from evenreel.workflows.editing.regions.places import opened_regions
from evenreel.workflows.editing.regions.region import Region
from evenreel.workflows.editing.regions.removed import check_found, removed
from evenreel.workflows.editing.setup.callers import check_clip, own_numbers
from evenreel.workflows.editing.setup.edit_record import described_regions, edit_record
from evenreel.workflows.editing.setup.opening import (
    edit_pipeline,
    expected_frames,
    open_source,
    opened_mask,
    writing,
)
from evenreel.workflows.editing.setup.run_setup import (
    check_apart,
    control_clips,
    described_output,
    recorded,
)

EditResult: TypeAlias = FileResult
"""What `edit_file` wrote."""


@dataclass(frozen=True, kw_only=True)
class EditedClip(RecordedClip):
    """A clip that an edit made; timestamps and `info` are those of its source, whose sound `save` adds."""


def edit_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: EditSettings,
    *,
    progress: Progress = silent,
    backbone: Backbone | None = None,
    download: bool = False,
    show_mask: bool = False,
    profile: bool = False,
    job: str | os.PathLike[str] | Job | None = None,
) -> EditResult:
    """Edit a video file or image folder into `output`, window by window, and write the record beside it.

    The clip never has to fit into memory. The result keeps its size, timestamps and sound.

    Examples:
        >>> settings = evenreel.EditSettings(prompt="a blue star rolling over snow", frames=(0, 2), steps=2)
        >>> result = evenreel.edit_file("in.mp4", "star.mp4", settings)
        >>> result.path.name, result.record_path.name, result.record["frames"]["written"]
        ('star.mp4', 'star.json', 2)

    Both results appear whole at the end, in place of earlier ones, or not at all. `backbone` is a model that is loaded
    already, in place of `settings.model`; `download` allows fetching one from the hub. With `show_mask` a film strip of
    what was edited lies beside the result, as `strip_path` has it; with `profile` the record says where the time went,
    and what the networks computed. `job` is a folder that keeps what is done, so that the same call goes on where one
    was stopped, with the same result; "auto" is one of its own in the cache, None keeps nothing.
    Raises any EvenreelError.
    """
    kept = job_use.opened(job, Path(source), Path(output), settings, download=download)
    wanted = {"download": download, "show_mask": show_mask, "profile": profile}
    if kept is None:
        return _edited(source, Path(output), settings, progress, backbone, None, **wanted)
    with kept.held():
        told = job_use.both(kept.follow, progress)
        result = _edited(source, Path(output), settings, told, backbone, kept, **wanted)
    inversions.prune()
    forget_oldest()
    return result


def _edited(
    source: str | os.PathLike[str],
    target: Path,
    settings: EditSettings,
    progress: Progress,
    backbone: Backbone | None,
    job: Job | None,
    *,
    download: bool,
    show_mask: bool,
    profile: bool,
) -> EditResult:
    record_path = record.record_path(target)
    stream = open_source(source, settings)
    (start, end), info = settings.frames, stream.info
    mask = opened_mask(settings, info.width, info.height)
    regions = opened_regions(settings.region, info.width, info.height)
    others = (*(() if mask is None else (mask.info,)), *(region.info for region in regions))
    written = (target, record_path, *((strip_path(target),) if show_mask else ()))
    check_apart((info, *others, *control_clips(settings)), *written)
    size = info.width, info.height
    with (
        own_numbers(),
        memory_errors_explained(settings.host, settings.inversion, settings.dtype, settings.device),
        Outputs(target) as outputs,
        ExitStack() as stack,
    ):
        writer = VideoWriter(
            target,
            *size,
            audio_from=info,
            audio_range=stream.audio_range,
            settings=writing(settings),
            outputs=outputs,
        )
        expected = expected_frames(info, start, end)
        pipeline = edit_pipeline(settings, backbone, progress, expected, download=download)
        meter = stack.enter_context(metered(pipeline.backbone, pipeline.stopwatch)) if profile else None
        with writer:
            described = _hashed(pipeline, info)
            working = model_size(*size, settings.size, pipeline.backbone)
            if job is not None:
                so_far = {
                    **recorded(pipeline, working),
                    "mask": None if mask is None else hash_of(mask.info.images or (mask.info.path,)),
                    **described_regions(regions),
                    "mask_models": described_models(settings.mask_models),
                }
                kept = Keeping.begun(job, pipeline.stopwatch, so_far, described, pipeline.backbone)
                stack.callback(kept.close)
                pipeline = dataclasses.replace(pipeline, kept=kept)
            latents, times = pipeline.encode(stream, working, expected, start)
            whole = settings.frames == (0, None)
            pipeline = placed(pipeline, regions, latents, start, whole=whole)

            def source_frames() -> Iterator[Pixels]:
                return (pixels for pixels, _ in stream)

            region = region_of(pipeline, latents, start, mask, windows=source_frames, whole=whole)
            clean = latents
            if settings.remove:
                check_found(region)
            else:
                latents = pipeline.edit(latents, pipeline.control(working, start, len(latents)), region)

            def write(writer: VideoWriter) -> Path:
                if settings.remove and region is not None:
                    source = (pixels for pixels, _ in stream)
                    windows = _removed(pipeline, region, source, size, stream.window)
                    return _written(writer, windows, times, stream.end_time)
                windows = pipeline.decode(latents, size)
                if region is not None:
                    source = (pixels for pixels, _ in stream)
                    both = pipeline.decode_beside(latents, clean, size)
                    windows = region.put_back(both, source, size, stream.window)
                return _written(writer, windows, times, stream.end_time)

            try:
                finished = write(writer)
            except OutputError as error:
                raise with_pictures_kept(error, target, size, write) from error
            values = edit_record(pipeline, described, working, writer.held_count, region, regions)
            if job is not None:
                values["job"] = job.state.task.name
            values["sound"] = record.plain(writer.sound)
            values["warnings"] += [*stream.warnings, *writer.warnings]
            values["output"] = described_output(target, finished)
            if meter is not None:
                values["profile"] = meter.described()
            record.add_record(outputs, values)
    if show_mask and region is not None:
        save_strip(region, stream, target)
    return EditResult(target, outputs.paths[1], values)


def edit_clip(
    clip: Clip,
    settings: EditSettings,
    *,
    progress: Progress = silent,
    backbone: Backbone | None = None,
    download: bool = False,
) -> EditedClip:
    """Edit a clip in memory; `settings.frames` counts from the clip's first frame. Raises any EvenreelError."""
    check_clip(clip)
    if settings.fps is not None:
        raise SettingsError(
            f"{argument('fps')} is for folders of images that are read, and the clip is read already; leave it out."
        )
    start, end = settings.frames
    if start or (end is not None and end < len(clip.frames)):
        clip = _part(clip, start, len(clip.frames) if end is None else end)
    height, width = clip.frames.shape[1:3]
    mask = opened_mask(settings, width, height)
    regions = opened_regions(settings.region, width, height)
    with (
        own_numbers(),
        memory_errors_explained(settings.host, settings.inversion, settings.dtype, settings.device),
    ):
        pipeline = edit_pipeline(settings, backbone, progress, len(clip.frames), download=download)
        working = model_size(width, height, settings.size, pipeline.backbone)
        length = window_length(width, height, settings.batch)
        windows = (
            (clip.frames[i : i + length], clip.timestamps[i : i + length])
            for i in range(0, len(clip.frames), length)
        )
        with pipeline.stopwatch.stage("hash"):
            _ = pipeline.backbone.fingerprint  # kept by the model
            described, changed = record.source_of(clip)
        latents, _ = pipeline.encode(windows, working, len(clip.frames), clip.start)
        whole = clip.start == 0 and clip.is_tail
        pipeline = placed(pipeline, regions, latents, clip.start, whole=whole)
        region = region_of(
            pipeline,
            latents,
            clip.start,
            mask,
            windows=lambda: clip.frames.split(length),
            whole=whole,
        )
        clean = latents
        if settings.remove:
            check_found(region)
        else:
            latents = pipeline.edit(latents, pipeline.control(working, clip.start, len(latents)), region)
        edited = pipeline.decode(latents, (width, height))
        if settings.remove and region is not None:
            edited = _removed(pipeline, region, clip.frames.split(length), (width, height), length)
        elif region is not None:
            both = pipeline.decode_beside(latents, clean, (width, height))
            edited = region.put_back(both, iter(clip.frames.split(length)), (width, height), length)
        frames = torch.cat(list(edited))
    values = edit_record(pipeline, described, working, len(frames), region, regions)
    # The record counts from the start of the file, as `repeat` will.
    values["settings"]["frames"] = [clip.start, None if clip.is_tail else clip.end]
    values["frames"]["first"] = clip.start
    values["cuts"] = [clip.start + cut for cut in pipeline.cuts]
    if changed is not None:
        values["not_repeatable"] = changed
    fields = {f.name: getattr(clip, f.name) for f in dataclasses.fields(Clip)}
    edited = EditedClip(**{**fields, "frames": frames}, record=values)
    values["frames_sha256"] = record.digest_of(edited)
    return edited


def save_clip(clip: Clip, output: str | os.PathLike[str]) -> None:
    """Write a clip with its timestamps and its source's sound, and the record beside it if there is one."""
    check_clip(clip)
    target = Path(output)
    record_path = record.record_path(target)
    check_apart((clip.info,), target, record_path)
    height, width = clip.frames.shape[1:3]
    told = EditSettings.from_json(clip.record["settings"]) if isinstance(clip, EditedClip) else None
    with (
        Outputs(target) as outputs,
        VideoWriter(
            target,
            width,
            height,
            audio_from=clip.info,
            audio_range=clip.audio_range,
            settings=WriteSettings() if told is None else writing(told),
            outputs=outputs,
        ) as writer,
    ):
        writer.write(clip.frames, clip.timestamps, clip.end_time)
        finished = writer.finish()
        if isinstance(clip, RecordedClip):
            values = {**clip.record, "output": described_output(target, finished)}
            if isinstance(clip, EditedClip):
                values["sound"] = record.plain(writer.sound)
                values["warnings"] = [*clip.record["warnings"], *writer.warnings]
                values["frames"] = {**values["frames"], "written": writer.held_count}
            if record.digest_of(clip) != clip.record["frames_sha256"]:
                values.setdefault("not_repeatable", "it was changed in Python before it was saved")
            record.add_record(outputs, values)


def _removed(
    pipeline: Pipeline, region: Region, source: Iterable[torch.Tensor], size: tuple[int, int], window: int
) -> Iterable[Pixels]:
    """Windows of the source without what the region holds."""
    pairs = zip(source, region.parts(size, window), strict=True)
    scenes = pipeline.scenes(len(region.cells))
    return pipeline.stopwatch.each("remove", removed(pairs, scenes, window, pipeline.progress))


def _written(
    writer: VideoWriter, windows: Iterable[Pixels], times: list[Fraction], end_time: Fraction | None
) -> Path:
    """Write all windows; returns where the result lies."""
    for pixels in windows:
        start, end = writer.frame_count, writer.frame_count + len(pixels)
        writer.write(pixels, times[start:end], end_time if end == len(times) else None)
    return writer.finish()


def _hashed(pipeline: Pipeline, info: VideoInfo) -> dict[str, Any]:
    """The source as the record keeps it, hashed before the long work: afterwards it may be another file."""
    with pipeline.stopwatch.stage("hash"):
        _ = pipeline.backbone.fingerprint  # kept by the model
        return record.described(info)


def _part(clip: Clip, start: int, end: int) -> Clip:
    count = len(clip.frames)
    if not 0 <= start < end <= count:
        raise SettingsError(
            f"the clip has {count} frames, and {start}:{end} was asked for; choose within 0:{count}."
        )
    tail = end == count
    return dataclasses.replace(
        clip,
        frames=clip.frames[start:end],
        timestamps=clip.timestamps[start:end],
        end_time=clip.end_time if tail else clip.timestamps[end],
        start=clip.start + start,
        end=clip.start + end,
        is_tail=clip.is_tail and tail,
    )
