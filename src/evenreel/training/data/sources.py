"""Where training data come from: folders of clips with captions, MSR-VTT, and scenes of the rendered world."""

import csv
import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from evenreel.errors import DataError, SettingsError, argument
from evenreel.files import shown
from evenreel.training.data.settings import SourceSettings

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "mov", "m4v", "mkv", "webm", "avi", "gif", "mpg"),
        *("mpeg", "ts", "flv", "wmv", "asf", "ogv", "ogg", "mxf"),
    )
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
NO_CAPTIONS = "it has no captions"
"""The problem of a clip that a model could caption."""
LONGEST_CAPTION = 2000
"""Characters above which a caption is taken for something else."""


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """One clip to take groups from, or the reason why it cannot be used."""

    name: str
    """What the clip is called in the data set: its path within the source, or MSR-VTT's video_id."""
    path: Path | None = None
    captions: tuple[str, ...] = ()
    dropped: int = 0
    """Captions left out: empty, doubled, unprintable or far too long."""
    cut: tuple[float, float] | None = None
    """Seconds from and to which a longer recording shows it."""
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class SceneEntry:
    """One scene to render."""

    name: str
    seed: int
    objects: int | None
    """1 or 2; None: as the seed decides."""
    frame_count: int


Entry = ClipEntry | SceneEntry


@dataclass(frozen=True, kw_only=True)
class Source:
    """Clips in a fixed order, and a description by which a later run knows them again."""

    description: dict[str, Any]
    entries: Sequence[Entry] = field(repr=False)

    @property
    def rendered(self) -> bool:
        """Whether depth and flow are known."""
        return self.description["kind"] == "world"


def opened(named: Path | None, settings: SourceSettings) -> Source:
    """Return the source that is `named`, or the scenes that settings ask for. Raises: SettingsError, DataError."""
    settings.check(named)
    if named is not None:
        return open_source(named, settings.clips, settings.split)
    assert settings.world is not None, "checked above"
    frames = settings.scene_frames
    return world_source(
        settings.world,
        first_seed=settings.first_seed or 0,
        objects=settings.objects,
        frame_count=24 if frames is None else frames,
    )


def world_source(
    scenes: int, *, first_seed: int = 0, objects: int | None = None, frame_count: int = 24
) -> Source:
    """Return scenes of the rendered world, one for each seed from `first_seed` on, `frame_count` frames of each."""
    if scenes < 1 or first_seed < 0 or frame_count < 2:
        raise SettingsError(
            f"the world needs at least 1 scene of 2 frames and seeds from 0 on, got {scenes} scenes of {frame_count} "
            f"frames from seed {first_seed}."
        )
    if objects not in (None, 1, 2):
        raise SettingsError(f"a scene has 1 or 2 objects, got {objects}.")
    entries = [
        SceneEntry(name=f"world-{seed}", seed=seed, objects=objects, frame_count=frame_count)
        for seed in range(first_seed, first_seed + scenes)
    ]
    described = {"kind": "world", "scenes": scenes, "first_seed": first_seed, "objects": objects}
    return Source(description={**described, "frame_count": frame_count}, entries=entries)


def open_source(path: Path, clips: Path | None = None, split: str | None = None) -> Source:
    """Return clips and captions of a folder, or of a file of captions whose clips lie in `clips` (default: beside it).

    `split` chooses among MSR-VTT's splits. Raises DataError for a source that cannot be read or holds no clips;
    single clips that cannot be used are entries with a `problem`.
    """
    captions = _captions_file(path)
    folder = clips or (path if path.is_dir() else path.parent)
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is not a folder; say where the clips lie with {argument('clips')}.")
    read = _read(captions) if captions else None
    if isinstance(read, Mapping) and isinstance(read.get("videos"), list):
        kind, entries = "msr-vtt", _msrvtt(read, folder, split, shown(captions or path))
    else:
        if split is not None:
            raise SettingsError(f"{shown(path)} has no splits; leave {argument('split')} out.")
        kind = "folder"
        table, unreadable = _beside(folder) if captions is None else (_table(read, shown(captions)), {})
        entries = _entries(folder, table, unreadable)
    if not entries:
        raise DataError(
            f"{shown(path)} holds no clips; give a folder of videos with captions.json, captions.csv or .txt files."
        )
    marks = hashlib.sha256()
    for entry in entries:
        size = entry.path.stat().st_size if entry.path and entry.path.is_file() else None
        mark = [entry.name, size, entry.captions, entry.cut, entry.problem]
        marks.update(json.dumps(mark).encode())
    described: dict[str, Any] = {"kind": kind, "clips": len(entries), "sha256": marks.hexdigest()}
    return Source(description=described | ({"split": split} if split else {}), entries=entries)


def _captions_file(path: Path) -> Path | None:
    """The file that holds the captions; None where each clip has its own."""
    if path.is_file():
        if path.suffix.lower() not in (".json", ".csv"):
            raise DataError(f"{shown(path)} is not captions (.json, .csv) nor a folder of clips; give one.")
        return path
    if not path.is_dir():
        raise DataError(f"{shown(path)} is not there; give a folder of clips with captions.")
    for name in ("captions.json", "captions.csv"):
        if (path / name).is_file():
            return path / name
    known = sorted(path.glob("*videodatainfo*.json"))
    if len(known) > 1:
        raise DataError(
            f"{shown(path)} holds {len(known)} files of MSR-VTT captions; name one of them instead of the folder."
        )
    return known[0] if known else None


def _read(path: Path) -> Any:
    """Parsed JSON, or the rows of a table with columns file and caption as {file: captions}."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text)
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if not {"file", "caption"} <= set(rows.fieldnames or ()):
            raise DataError(
                f"{shown(path)} has no columns named file and caption; name them in its first line."
            )
        table: dict[str, list[Any]] = {}
        for row in rows:
            table.setdefault(row["file"] or "", []).append(row["caption"])
        return table
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        if isinstance(error, UnicodeError):
            raise DataError(f"{shown(path)} is not text in UTF-8; save it as UTF-8.") from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{shown(path)} cannot be read ({reason}); mend it or leave it out.") from error


def _table(read: Any, where: str) -> dict[str, list[Any]]:
    """{file: captions} from {file: caption or captions} or a list of objects that say file and caption(s)."""
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(read, Mapping):
        pairs = read.items()
    elif isinstance(read, list) and all(isinstance(row, Mapping) and "file" in row for row in read):
        pairs = [(row["file"], row.get("captions", row.get("caption"))) for row in read]
    else:
        raise DataError(
            f"{where} is of no known form; write {{file: [captions]}}, a list of objects with file and captions, or "
            "MSR-VTT's own."
        )
    table: dict[str, list[Any]] = {}
    for file, captions in pairs:
        table.setdefault(str(file), []).extend(captions if isinstance(captions, list) else [captions])
    return table


def _beside(folder: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Captions from NAME.txt beside a video NAME.mp4 or a folder of images NAME, one a line; and what cannot be read.

    Both by the clip's path within the folder.
    """
    table: dict[str, list[Any]] = {}
    unreadable: dict[str, str] = {}
    for text in _walk(folder, lambda file: file.suffix.lower() == ".txt"):
        videos = [text.with_suffix(suffix) for suffix in sorted(VIDEO_SUFFIXES)]
        clips = [clip for clip in videos if clip.is_file()]
        if text.with_suffix("").is_dir():
            clips.append(text.with_suffix(""))
        captions, problem = [], None
        try:
            captions = text.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeError:
            problem = f"{shown(text.name)} is not text in UTF-8"
        except OSError as error:
            problem = f"{shown(text.name)} cannot be read ({error.strerror})"
        for clip in clips:
            name = clip.relative_to(folder).as_posix()
            table[name] = list(captions)
            if problem is not None:
                unreadable[name] = problem
    return table, unreadable


def _walk(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Visible files below a folder, in order."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".") and wanted(Path(name))]
    return sorted(found)


def _entries(
    folder: Path, table: Mapping[str, Sequence[Any]], unreadable: Mapping[str, str]
) -> list[ClipEntry]:
    """Every clip that has captions or lies in the folder, in the order of their names."""
    captions_of: dict[str, list[Any]] = {}
    for file, captions in table.items():
        captions_of.setdefault(str(PurePosixPath(file)), []).extend(captions)
    for clip in _walk(folder, lambda file: file.suffix.lower() in VIDEO_SUFFIXES):
        captions_of.setdefault(clip.relative_to(folder).as_posix(), [])
    for place in _image_folders(folder):
        captions_of.setdefault(place.relative_to(folder).as_posix(), [])
    entries = [_entry(folder, file, captions_of[file]) for file in sorted(captions_of)]
    return [
        replace(entry, problem=unreadable[file]) if file in unreadable else entry
        for file, entry in zip(sorted(captions_of), entries, strict=True)
    ]


def _image_folders(folder: Path) -> list[Path]:
    """Folders below one that hold images and no videos: each is a clip."""
    images = {file.parent for file in _walk(folder, lambda file: file.suffix.lower() in IMAGE_SUFFIXES)}
    videos = {file.parent for file in _walk(folder, lambda file: file.suffix.lower() in VIDEO_SUFFIXES)}
    return sorted(images - videos - {folder})


def _entry(folder: Path, file: str, captions: Sequence[Any]) -> ClipEntry:
    name, kept = shown(file), cleaned(captions)
    parts = PurePosixPath(file)
    if parts.is_absolute() or ".." in parts.parts or "\0" in file or file == ".":
        return ClipEntry(name=name, problem="its name leads out of the folder")
    path = folder / file
    if not _is_there(path):
        return ClipEntry(name=name, problem="there is no such file")
    if not kept:
        return ClipEntry(name=name, path=path, problem=NO_CAPTIONS)
    return ClipEntry(name=name, path=path, captions=kept, dropped=len(captions) - len(kept))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def cleaned(captions: Iterable[Any]) -> tuple[str, ...]:
    """Return captions on one line each, in order, each once, without empty ones and what is no text."""
    kept: dict[str, None] = {}
    for caption in captions:
        text = " ".join(caption.split()) if isinstance(caption, str) else ""
        if 0 < len(text) <= LONGEST_CAPTION and not any(
            unicodedata.category(c) in ("Cc", "Cs") for c in text
        ):
            kept[text] = None
    return tuple(kept)


def _msrvtt(read: Mapping[str, Any], folder: Path, split: str | None, where: str) -> list[ClipEntry]:
    """Entries of MSR-VTT's own JSON: `videos` (video_id, split, times) and `sentences` (video_id, caption).

    Videos lie in the folder, or one below it as the archive has them (TrainValVideo), as <video_id>.mp4.
    """
    captions: dict[str, list[Any]] = {}
    try:
        for sentence in read["sentences"]:
            captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
        videos = {
            video["video_id"]: (
                video.get("split"),
                float(video.get("start time", 0)),
                float(video.get("end time", 0)),
            )
            for video in read["videos"]
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{where} looks like MSR-VTT's captions but is damaged; download it again."
        ) from error
    splits = sorted({str(video[0]) for video in videos.values()})
    if split is not None and split not in splits:
        raise SettingsError(f"{where} has no split {split!r}; it has {', '.join(splits)}.")
    files = {
        file.stem: file
        for file in _walk(folder, lambda file: file.suffix.lower() in VIDEO_SUFFIXES)
        if len(file.relative_to(folder).parts) <= 2
    }
    entries = []
    for name, (its_split, start, end) in videos.items():
        if split is not None and its_split != split:
            continue
        kept = cleaned(captions.get(name, ()))
        problem = "there is no such file" if name not in files else None if kept else NO_CAPTIONS
        entries.append(
            ClipEntry(
                name=shown(str(name)),
                path=files.get(name),
                captions=kept,
                dropped=len(captions.get(name, ())) - len(kept),
                cut=(start, end) if 0 <= start < end else None,
                problem=problem,
            )
        )
    return entries
