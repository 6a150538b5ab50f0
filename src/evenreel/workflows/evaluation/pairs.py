"""Which clips are compared with which: one pair, two folders of clips, or a list in a file."""

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evenreel.errors import ClipError, SettingsError
from evenreel.settings.kinds import parse_frames
from evenreel.video.images import SUFFIXES as IMAGE_SUFFIXES
from evenreel.video.images import natural_key

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".ogv", ".y4m"}
)
"""What counts as a clip in a folder of clips; a folder of images is one too."""
EDITED = ("", "-edited", "_edited", "-repeated")
"""What may follow the source's name in that of its edit."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A source, its edit, and what is known of them."""

    source: Path
    edit: Path
    prompt: str | None = None
    """What the edit was to show; None: as the record beside the edit says."""
    source_prompt: str | None = None
    """What the source shows; None: as the record says."""
    mask: Path | None = None
    """A clip or an image: what is not black was to be edited."""
    flow: Path | None = None
    """A folder of .flo or .npy files."""
    truth: Path | None = None
    """The right answer, as a clip."""
    frames: tuple[int, int | None] | None = None
    """Which frames of the source were edited, half-open; None: as the record says, or all."""


PATHS = ("source", "edit", "mask", "flow", "truth")


def is_collection(folder: Path) -> bool:
    """Return whether a folder holds clips (rather than images, which make it a clip itself)."""
    return folder.is_dir() and not _has_images(folder) and bool(_clips_in(folder))


def in_folders(common: Pair) -> tuple[list[Pair], list[str]]:
    """List pairs of equal names in two folders of clips, and a sentence for each clip without a partner.

    `common` holds the folders, and what is the same for all; mask, flow and truth are folders of the same names.
    Raises ClipError where two files have one name, or nothing matches at all.
    """
    sources, edits = _clips_in(common.source), _clips_in(common.edit)
    found, alone, used = [], [], set()
    for name, source in sources.items():
        matches = [edits[name + end] for end in EDITED if name + end in edits]
        if not matches:
            alone.append(f"{source.name} has no edit of its name in {common.edit}")
            continue
        if len(matches) > 1:
            names = " and ".join(match.name for match in matches)
            raise ClipError(f"{common.edit} holds {names} for {source.name}; keep one of them.")
        used.add(matches[0])
        besides = {
            part: _beside(getattr(common, part), name)
            for part in ("mask", "flow", "truth")
            if getattr(common, part)
        }
        found.append(
            Pair(
                source=source,
                edit=matches[0],
                prompt=common.prompt,
                source_prompt=common.source_prompt,
                frames=common.frames,
                **besides,
            )
        )
    alone += [
        f"{edit.name} has no source of its name in {common.source}"
        for edit in edits.values()
        if edit not in used
    ]
    if not found:
        raise ClipError(
            f"no clip in {common.source} has the name of one in {common.edit}; name edits as their sources."
        )
    return found, alone


def in_file(file: Path) -> list[Pair]:
    """Read the pairs listed in a .json (a list of objects) or a .csv (with a header); names are the fields of `Pair`.

    Paths are relative to the file's folder, frames are START:END, and an empty cell is as good as none. Raises
    SettingsError for anything else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows: Any = json.loads(text) if file.suffix.lower() == ".json" else _csv_rows(text)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not what its name says"
        raise SettingsError(
            f"{file} cannot be read ({reason}); give a .json or .csv file of pairs."
        ) from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise SettingsError(f"{file} lists no pairs; give a list of objects with `source` and `edit`.")
    return [_pair(file, number, row) for number, row in enumerate(rows, 1)]


def _csv_rows(text: str) -> list[dict[str, Any]]:
    # lines are left as they are: a quoted prompt may go over several
    return list(csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True))


def _pair(file: Path, number: int, row: Mapping[str, Any]) -> Pair:
    known = {f.name for f in fields(Pair)}
    if unknown := [name for name in row if name not in known]:
        raise SettingsError(
            f"{file}: pair {number} has the unknown {', '.join(map(repr, unknown))[:100]}; "
            f"known are {', '.join(sorted(known))}."
        )
    values = {name: value for name, value in row.items() if value not in (None, "")}
    if bad := [name for name, value in values.items() if not isinstance(value, str)]:
        raise SettingsError(f"{file}: pair {number}: {bad[0]} must be text, got {values[bad[0]]!r:.60}.")
    if lacking := [name for name in ("source", "edit") if name not in values]:
        raise SettingsError(f"{file}: pair {number} has no {lacking[0]}.")
    parsed: dict[str, Any] = dict(values)
    if "frames" in values:
        parsed["frames"] = parse_frames(f"{file}: frames of pair {number}", values["frames"])
    return Pair(**parsed | {name: file.parent / values[name] for name in PATHS if name in values})


def _clips_in(folder: Path) -> dict[str, Path]:
    """Videos and folders of images, by name without suffix."""
    found: dict[str, Path] = {}
    for entry in _entries(folder):
        is_clip = _has_images(entry) if entry.is_dir() else entry.suffix.lower() in VIDEO_SUFFIXES
        if not is_clip:
            continue
        name = entry.name if entry.is_dir() else entry.stem
        if name in found:
            raise ClipError(
                f"{folder} holds {found[name].name} and {entry.name}; keep one clip of each name."
            )
        found[name] = entry
    return found


def _beside(folder: Path, name: str) -> Path:
    """The mask, flow or truth of one clip. One that is missing must not pass for one that was not asked for."""
    matches = [entry for entry in _entries(folder) if name in (entry.stem, entry.name)]
    if len(matches) != 1:
        raise ClipError(
            f"{folder} holds {len(matches) or 'nothing'} of the name {name}; give one for each source."
        )
    return matches[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted((f for f in folder.iterdir() if not f.name.startswith(".")), key=natural_key)
    except OSError as error:
        raise ClipError(f"{folder} cannot be listed ({error.strerror}); give a folder of clips.") from error


def _has_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    except OSError:
        return False
