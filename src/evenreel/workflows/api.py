"""`evenreel.edit`, `evenreel.generate` and `evenreel.save`: the Python interface in three functions."""

import os
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from evenreel.backbones import Backbone
from evenreel.errors import SettingsError
from evenreel.progress import Progress, listener
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.settings.runs import RunSettings
from evenreel.video import Clip
from evenreel.workflows.editing.edit import EditedClip, edit_clip, save_clip
from evenreel.workflows.editing.generate import GeneratedClip, generate_clip

if TYPE_CHECKING:  # they say nothing that the settings do not say at run time
    from evenreel.settings.keywords import EditKeywords, GenerateKeywords

Run = TypeVar("Run", bound=RunSettings)


@overload
def edit(
    clip: Clip,
    settings: EditSettings,
    /,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
) -> EditedClip: ...


@overload
def edit(
    clip: Clip,
    prompt: str,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
    **settings: "Unpack[EditKeywords]",
) -> EditedClip: ...


def edit(
    clip: Clip,
    prompt: str | EditSettings,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
    **settings: Any,
) -> EditedClip:
    """Edit a clip in memory and return it with the same size, length and timestamps, and a record of the edit.

    Examples:
        >>> clip = evenreel.load("in.mp4", 0, 2)
        >>> edited = evenreel.edit(clip, "a blue star rolling over snow", host="vidtome", steps=2, seed=0)
        >>> edited.frames.shape == clip.frames.shape
        True

    Keywords are the fields of `EditSettings`, written flat (`adapter="mine.safetensors", adapter_scale=0.5`). An
    `EditSettings` in the prompt's place says the same; type checkers know both. `frames=(start, end)` counts from the
    clip's first frame. A `backbone` from `load_backbone`, used again, saves loading the weights for every clip.
    With `progress=True` a bar shows each stage, in notebooks too; a function of yours is called with (stage, done,
    total). `download` allows fetching the model from the Hugging Face hub.

    Raises: SettingsError for a setting or prompt that cannot be, PluginError for an unknown host, WeightsError for a
    model that is absent or damaged, ResourceError when memory runs out.
    """
    chosen = _settings(EditSettings, prompt, settings)
    return edit_clip(clip, chosen, progress=listener(progress), backbone=backbone, download=download)


@overload
def generate(
    settings: GenerateSettings,
    /,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
) -> GeneratedClip: ...


@overload
def generate(
    prompt: str,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
    **settings: "Unpack[GenerateKeywords]",
) -> GeneratedClip: ...


def generate(
    prompt: str | GenerateSettings,
    *,
    backbone: Backbone | None = None,
    progress: Progress | bool = False,
    download: bool = False,
    **settings: Any,
) -> GeneratedClip:
    """Make a clip from text and return it with a record of how.

    Examples:
        >>> clip = evenreel.generate("a red circle rolling over grass", frames=2, steps=2)
        >>> clip.frames.shape
        torch.Size([2, 128, 128, 3])

    Keywords are the fields of `GenerateSettings`, and one of those may stand in the prompt's place. The rest is as for
    `edit`, and so are the errors.
    """
    chosen = _settings(GenerateSettings, prompt, settings)
    return generate_clip(chosen, progress=listener(progress), backbone=backbone, download=download)


def save(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip to an .mp4, .mov, .mkv, .webm or .gif, or (no suffix) to a folder of PNGs.

    Examples:
        >>> evenreel.save(evenreel.load("in.mp4", 2, 5), "part.mp4")
        >>> evenreel.probe("part.mp4").frame_count
        3

    Timestamps are kept and the sound of the clip's source is copied; beside a clip that evenreel made goes its record,
    as .json. An earlier file is replaced only once the new one is whole. Raises: OutputError.
    """
    save_clip(clip, path)


def _settings(kind: type[Run], prompt: object, keywords: dict[str, Any]) -> Run:
    if not isinstance(prompt, kind):
        return kind.from_json({"prompt": prompt, **keywords})
    if keywords:
        raise SettingsError(f"{', '.join(sorted(keywords))} stand beside settings; put them into these.")
    return prompt
