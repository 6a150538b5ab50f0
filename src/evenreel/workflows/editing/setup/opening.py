"""What an edit opens: the source, masks, and all that it computes with."""

import dataclasses
import os
from fractions import Fraction

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError, argument
from evenreel.files import shown
from evenreel.inversions.base import create_inversion
from evenreel.progress import Progress
from evenreel.settings import EditSettings
from evenreel.video import FrameStream, ReadSettings, VideoInfo, WriteSettings, open_clip
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.computing.sizes import window_length
from evenreel.workflows.editing.regions.carried_mask import check_painted
from evenreel.workflows.editing.regions.mask_models import check_mask_models
from evenreel.workflows.editing.regions.region import MaskClip
from evenreel.workflows.editing.regions.removed import check_can_remove
from evenreel.workflows.editing.setup.run_setup import opened


def open_source(source: str | os.PathLike[str], settings: EditSettings) -> FrameStream:
    """Open the frames that are to be edited. Raises: ClipError, SettingsError."""
    stream = open_clip(
        source,
        *settings.frames,
        allow_truncated=settings.allow_truncated,
        allow_damaged=settings.allow_damaged,
        settings=_reading(settings),
    )
    info = stream.info
    if settings.fps is not None and not info.is_images:
        raise SettingsError(
            f"{argument('fps')} is for folders of images, and {shown(info.path)} has a rate of its own; leave it out."
        )
    stream.window = window_length(info.width, info.height, settings.batch)
    return stream


def opened_mask(settings: EditSettings, width: int, height: int) -> MaskClip | None:
    """Open the mask that settings name, for a clip of `width` x `height`. Raises: ClipError, SettingsError,
    WeightsError for a model of masks that is another, PluginError where OpenCV is needed and absent."""
    if settings.remove:
        check_can_remove()
    check_mask_models(settings.mask_models, settings.followed)
    if settings.mask is None:
        return None
    mask = MaskClip.opened(settings.mask, width, height)
    if settings.mask_frame is not None:
        check_painted(mask)
    return mask


def _reading(settings: EditSettings) -> ReadSettings:
    return ReadSettings() if settings.fps is None else ReadSettings(image_rate=Fraction(str(settings.fps)))


def writing(settings: EditSettings) -> WriteSettings:
    """Return what the settings say of writing."""
    return WriteSettings(sound=settings.sound, sound_track=settings.sound_track)


def edit_pipeline(
    settings: EditSettings,
    backbone: Backbone | None,
    progress: Progress,
    frames: int | None,
    *,
    download: bool,
) -> Pipeline:
    """Open all that an edit needs, and check it. Raises any EvenreelError."""
    if not (settings.remove and settings.has_mask):
        settings.need_prompt()
    inversion = create_inversion(settings)  # wrong options fail before weights load
    if frames is not None:
        settings.check_changes(frames)
    told = [text for schedule in settings.schedules for text in schedule.texts]
    prompts = [*told, settings.negative_prompt, settings.source_prompt]
    pipeline = opened(
        Pipeline,
        settings,
        backbone,
        progress,
        prompts=prompts,
        inversion=inversion,
        frames=frames,
        download=download,
    )
    return dataclasses.replace(pipeline, made=inversion)


def expected_frames(info: VideoInfo, start: int, end: int | None) -> int | None:
    """Count the frames that a range of a clip holds, as far as known."""
    count = info.estimated_frame_count
    if end is not None:
        return end - start
    return max(1, count - start) if count is not None else None
