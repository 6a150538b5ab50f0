"""Videos in and out: probe, read, resize, write."""

from evenreel.video.info import Clip, ReadSettings, VideoInfo
from evenreel.video.orientation import Orientation
from evenreel.video.probe import probe
from evenreel.video.read import FrameStream, load, open_clip
from evenreel.video.resize import fit, from_model, to_model

__all__ = [
    "Clip",
    "FrameStream",
    "Orientation",
    "ReadSettings",
    "VideoInfo",
    "fit",
    "from_model",
    "load",
    "open_clip",
    "probe",
    "to_model",
]
