"""Videos in and out: probe, read, resize, write."""

from evenreel.video.encoders import WriteSettings
from evenreel.video.info import Clip, ReadSettings, VideoInfo
from evenreel.video.orientation import Orientation
from evenreel.video.probe import probe
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
