"""Videos in and out: probe, read, resize, write."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evenreel.video.encoders import WriteSettings
from evenreel.video.info import ReadSettings, VideoInfo
from evenreel.video.orientation import Orientation
from evenreel.video.probe import probe

if TYPE_CHECKING:
    from evenreel.video.clip import Clip
    from evenreel.video.read import FrameStream, load, open_clip
    from evenreel.video.resize import fit, from_model, to_model
    from evenreel.video.strip import film_strip
    from evenreel.video.write import VideoWriter

__all__ = [
    "Clip",
    "FrameStream",
    "Orientation",
    "ReadSettings",
    "VideoInfo",
    "VideoWriter",
    "WriteSettings",
    "film_strip",
    "fit",
    "from_model",
    "load",
    "open_clip",
    "probe",
    "to_model",
]

# Whatever holds pixels loads when it is first used: it takes torch, and `evenreel info` must not wait for that.
_HOMES = {
    "evenreel.video.clip": ("Clip",),
    "evenreel.video.read": ("FrameStream", "load", "open_clip"),
    "evenreel.video.resize": ("fit", "from_model", "to_model"),
    "evenreel.video.strip": ("film_strip",),
    "evenreel.video.write": ("VideoWriter",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'evenreel.video' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
