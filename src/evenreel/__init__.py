"""Text-guided video editing with Stable-Diffusion-type models.

    import evenreel

    clip = evenreel.load("in.mp4")
    edited = evenreel.edit(clip, prompt="a blue star rolling over snow")
    evenreel.save(edited, "out.mp4")

    clip = evenreel.generate("a red circle rolling over grass")

`clip.frames` is a uint8 tensor of RGB, (frames, height, width, 3); `clip.timestamps` are exact seconds. Whatever goes
wrong for a reason the caller can mend raises an `EvenreelError`. `edit_file` edits clips of any length: it never holds
one in memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evenreel._version import __version__

if TYPE_CHECKING:
    from evenreel.backbones import load_backbone
    from evenreel.errors import (
        ClipError,
        DataError,
        EvenreelError,
        OutputError,
        PluginError,
        ResourceError,
        SettingsError,
        WeightsError,
    )
    from evenreel.settings import AdapterUse, ControlUse, EditSettings, GenerateSettings, RegionUse
    from evenreel.video import Clip, VideoInfo, load, probe
    from evenreel.workflows.api import edit, generate, save
    from evenreel.workflows.editing.edit import EditedClip, EditResult, edit_file
    from evenreel.workflows.editing.generate import GeneratedClip, generate_file
    from evenreel.workflows.evaluation.evaluate import Evaluation, Evaluator, evaluate
    from evenreel.workflows.training.adapter import train_adapter

__all__ = [
    "AdapterUse",
    "Clip",
    "ClipError",
    "ControlUse",
    "DataError",
    "EditResult",
    "EditSettings",
    "EditedClip",
    "Evaluation",
    "Evaluator",
    "EvenreelError",
    "GenerateSettings",
    "GeneratedClip",
    "OutputError",
    "PluginError",
    "RegionUse",
    "ResourceError",
    "SettingsError",
    "VideoInfo",
    "WeightsError",
    "__version__",
    "edit",
    "edit_file",
    "evaluate",
    "generate",
    "generate_file",
    "load",
    "load_backbone",
    "probe",
    "save",
    "train_adapter",
]

# Names load when they are first used: torch takes a second to import, and `evenreel --help` must not wait for it.
_HOMES = {
    "evenreel.backbones": ("load_backbone",),
    "evenreel.errors": (
        "ClipError",
        "DataError",
        "EvenreelError",
        "OutputError",
        "PluginError",
        "ResourceError",
        "SettingsError",
        "WeightsError",
    ),
    "evenreel.settings": ("AdapterUse", "ControlUse", "EditSettings", "GenerateSettings", "RegionUse"),
    "evenreel.video": ("Clip", "VideoInfo", "load", "probe"),
    "evenreel.workflows.api": ("edit", "generate", "save"),
    "evenreel.workflows.editing.edit": ("EditResult", "EditedClip", "edit_file"),
    "evenreel.workflows.editing.generate": ("GeneratedClip", "generate_file"),
    "evenreel.workflows.evaluation.evaluate": ("Evaluation", "Evaluator", "evaluate"),
    "evenreel.workflows.training.adapter": ("train_adapter",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'evenreel' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
