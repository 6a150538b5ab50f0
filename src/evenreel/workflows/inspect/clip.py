"""What a clip holds, and what an edit of it carries over."""

from collections.abc import Mapping
from pathlib import Path

from evenreel.video import VideoInfo, WriteSettings
from evenreel.video.encoders import recipe
from evenreel.video.kept import read_kept
from evenreel.video.sound import plan_sound

KINDS = (".mp4", ".mov", ".mkv", ".webm")
"""Kinds of result that hold sound."""


def kept_of(info: VideoInfo) -> Mapping[str, object]:
    """Return what results keep of a clip beside pictures and sound: metadata by name, `chapters` as start, end (in
    seconds) and title, `timecode`; what there is not is left out.
    """
    kept = read_kept(info, from_start=True)
    chapters = [(float(start), float(end), told.get("title", "")) for start, end, told in kept.chapters]
    found = {"metadata": dict(kept.metadata), "chapters": chapters, "timecode": kept.timecode}
    return {name: value for name, value in found.items() if value}


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
