"""`evenreel.edit`, `evenreel.generate` and `evenreel.save`: the Python interface in three functions."""

import os
from typing import Any

from evenreel.backbones import Backbone
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.video import Clip
from evenreel.workflows.editing.edit import EditedClip, edit_clip, save_clip
from evenreel.workflows.editing.generate import GeneratedClip, generate_clip


def edit(
    clip: Clip,
    prompt: str,
    *,
    backbone: Backbone | None = None,
    progress: Progress = silent,
    download: bool = False,
    **settings: Any,
) -> EditedClip:
    """Edit a clip in memory and return it with the same size, length and timestamps, and a record of the edit.

        edited = evenreel.edit(clip, "a blue star rolling over snow", source_prompt="a red circle rolling over grass",
                               host="vidtome", steps=50, guidance_scale=7.5, seed=0)

    `settings` are the fields of `EditSettings`; `frames=(start, end)` counts from the clip's first frame. A `backbone`
    from `load_backbone`, used again, saves loading the weights for every clip. `progress` is called with
    (stage, done, total). `download` allows fetching the model from the Hugging Face hub.

    Raises: SettingsError for a setting or prompt that cannot be, PluginError for an unknown host, WeightsError for a
    model that is absent or damaged, ResourceError when memory runs out.
    """
    checked = EditSettings.from_json({"prompt": prompt, **settings})
    return edit_clip(clip, checked, progress=progress, backbone=backbone, download=download)


def generate(
    prompt: str,
    *,
    backbone: Backbone | None = None,
    progress: Progress = silent,
    download: bool = False,
    **settings: Any,
) -> GeneratedClip:
    """Make a clip from text and return it with a record of how.

        clip = evenreel.generate("a red circle rolling over grass", frames=16, fps=8, seed=0)

    `settings` are the fields of `GenerateSettings`; the rest is as for `edit`, and so are the errors.
    """
    checked = GenerateSettings.from_json({"prompt": prompt, **settings})
    return generate_clip(checked, progress=progress, backbone=backbone, download=download)


def save(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip to an .mp4, .mov, .mkv, .webm or .gif, or (no suffix) to a folder of PNGs.

    Timestamps are kept and the sound of the clip's source is copied; beside a clip that evenreel made goes its record,
    as .json.
    An earlier file is replaced only once the new one is whole. Raises: OutputError.
    """
    save_clip(clip, path)
