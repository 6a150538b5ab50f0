"""What a clip holds, and what an edit of it carries over."""

from collections.abc import Mapping
from pathlib import Path

from evenreel.video import VideoInfo, WriteSettings
from evenreel.video.encoders import recipe
from evenreel.video.sound import plan_sound

KINDS = (".mp4", ".mov", ".mkv", ".webm")
"""Kinds of result that hold sound."""


def sound_in(info: VideoInfo) -> Mapping[str, str]:
    """Return what becomes of the sound in each kind of result, in words; nothing for a clip without sound."""
    if not info.has_audio:
        return {}
    settings = WriteSettings()
    told: dict[str, str] = {}
    for kind in KINDS:
        target = Path(f"result{kind}")
        plan, warnings = plan_sound(info, target, recipe(target, info.width, info.height, settings), settings)
        if plan is None:
            told[kind] = f"left out: {' '.join(warnings)}"
        elif plan.copied:
            told[kind] = f"{plan.codec}, copied"
        else:
            told[kind] = f"{plan.codec}, encoded again at {plan.rate} Hz, {plan.layout}"
    return told
