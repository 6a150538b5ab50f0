"""The record of an edit: a JSON file beside the result with all that is needed to repeat it."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from evenreel._version import __version__
from evenreel.backbones import Backbone
from evenreel.backbones.devices import MIXED
from evenreel.errors import ClipError, OutputError, SettingsError, argument
from evenreel.files import Aside, unwritable
from evenreel.installed import LIBRARIES, version
from evenreel.outputs import Outputs, check_name, plain
from evenreel.video import Clip, VideoInfo, open_clip
from evenreel.video.hashing import hash_of

RECORD_VERSION = 1
"""Raised when a record changes in a way that older readers would misread."""


@dataclass(frozen=True)
class FileResult:
    """What was written."""

    path: Path
    """The clip."""
    record_path: Path
    """The record beside it."""
    record: dict[str, Any]
    """What that file holds."""


@dataclass(frozen=True, kw_only=True)
class RecordedClip(Clip):
    """A clip in memory that evenreel made."""

    record: dict[str, Any]
    """All that is needed to make it again."""


def versions() -> dict[str, str]:
    """Return versions of all that can change a result."""
    libraries = {library: version(library) or "unknown" for library in LIBRARIES}
    return {"evenreel": __version__, "python": platform.python_version(), **libraries}


def machine(backbone: Backbone) -> dict[str, Any]:
    """Return where and in what numbers an edit was computed."""
    device = backbone.device
    return {
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "dtype": number_type(backbone),
        "threads": torch.get_num_threads(),
    }


def number_type(backbone: Backbone) -> str:
    """Name what a model computes in, as the setting `dtype` does."""
    return MIXED if backbone.mixed else str(backbone.dtype).removeprefix("torch.")


def described(info: VideoInfo) -> dict[str, Any]:
    """Describe a source as the record keeps it: where, what, and a hash by which it is known again."""
    values = plain(info)
    values["path"] = str(info.path.absolute())
    # A folder may hold thousands of images; their number and hash say enough.
    values["images"] = len(info.images)
    return {**values, "sha256": hash_of(info.images or (info.path,))}


def digest_of(clip: Clip) -> str:
    """Hash what a clip in memory shows and when, by which changes in Python are seen."""
    total = hashlib.sha256(repr((tuple(clip.frames.shape), clip.timestamps, clip.end_time)).encode())
    total.update(clip.frames.contiguous().cpu().numpy().data)
    return total.hexdigest()


def source_of(clip: Clip) -> tuple[dict[str, Any], str | None]:
    """Describe a clip in memory as the record keeps its file; and why `repeat` could not read the same frames there, if
    so."""
    unread = {**plain(clip.info), "images": len(clip.info.images), "sha256": None}
    if not clip.info.path.name:
        return {**unread, "path": ""}, "its source was never a file"
    try:
        return described(clip.info), None if _is_as_read(
            clip
        ) else "its source was changed in Python after it was read"
    except (ClipError, OSError):
        return {**unread, "path": str(clip.info.path.absolute())}, "its source could not be read again"


def _is_as_read(clip: Clip) -> bool:
    """Whether a clip is what its file holds. Raises: ClipError where that cannot be read any more."""
    at = 0
    for pixels, timestamps in open_clip(clip.info.path, clip.start, clip.end, allow_truncated=True):
        there = slice(at, at + len(pixels))
        if clip.timestamps[there] != timestamps or not torch.equal(clip.frames[there].cpu(), pixels):
            return False
        at += len(pixels)
    return at == len(clip.frames)


def check_repeatable(values: Mapping[str, Any], path: Path) -> None:
    """Raise SettingsError for the record of a clip that cannot be made again from it."""
    if reason := values.get("not_repeatable"):
        raise SettingsError(
            f"{path} cannot be repeated: {reason}; save the clip that goes in to a file, and edit that."
        )


def now() -> str:
    """Return the time, for people; nothing depends on it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_path(output: Path) -> Path:
    """Return where the record of a result lies. Raises OutputError where the result has no name.

    That is the same name ending in .json; for moon.gif beside a moon.mp4 with its record, moon.gif.json.
    """
    check_name(output)
    usual = output.with_suffix(".json")
    if _recorded_name(usual) in (None, output.name):
        return usual
    return output.with_name(f"{output.name}.json" if output.suffix else f"{output.name}.frames.json")


def _recorded_name(path: Path) -> str | None:
    """The name of the result that a record is about; None for what is not a record."""
    try:
        told = read_record(path)["output"]["path"]
    except (SettingsError, KeyError, TypeError):
        return None
    return Path(told).name if isinstance(told, str) else None


def check_record_place(path: Path) -> None:
    """Refuse to replace a file that happens to have the record's name but is something else."""
    try:
        if not path.exists():
            return
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); choose another {argument('output')}."
        ) from error
    try:
        read_record(path)
    except SettingsError as error:
        raise OutputError(
            f"{path} exists and is not a record of evenreel, which would go there; "
            f"move it or choose another {argument('output')}."
        ) from error


def add_record(outputs: Outputs, record: Mapping[str, Any]) -> None:
    """Write the record of what `outputs` holds; it takes its name with the result. Raises OutputError."""
    path = record_path(outputs.target)
    aside = Aside(path)
    outputs.add(aside, record_path)
    try:
        aside.path.write_bytes(as_json(record).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise unwritable(path, error) from error


def as_json(values: Mapping[str, Any]) -> str:
    """Write records and evaluations as files hold them."""
    return json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: Path) -> dict[str, Any]:
    """Read a record as `add_record` left it. Raises SettingsError for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise SettingsError(
            f"{path} cannot be read ({reason}); give the .json beside an edited clip."
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise SettingsError(f"{path} is not a record of an edit; give the .json beside an edited clip.")
    if record.get("record_version") != RECORD_VERSION:
        raise SettingsError(
            f"{path} is a record of version {record.get('record_version')} and this evenreel reads {RECORD_VERSION}; "
            "use the evenreel that wrote it."
        )
    return record
