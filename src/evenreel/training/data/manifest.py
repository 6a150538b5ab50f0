"""The manifest of a data set: its settings, its source, and every finished shard with its hash."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evenreel._version import __version__
from evenreel.errors import DataError
from evenreel.files import shown, write_atomically
from evenreel.training.data.settings import DataSettings

NAME = "manifest.json"
FORMAT = 1
"""Raised when data sets change in a way that older readers would misread."""
SHARD_NAME = "shard-{:05d}.tar"
_SHARD = re.compile(r"shard-\d{5,9}\.tar")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A finished shard."""

    file: str
    sha256: str
    bytes: int
    samples: int
    clips: int
    """Clips it was made of, those left out included."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Clips that could not be used, each with the reason."""
    dropped_captions: int = 0
    """Captions that were empty, doubled, unprintable or far too long."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a data set consists of; shards are listed as they are finished, in their order."""

    settings: DataSettings
    source: Mapping[str, Any]
    shard_count: int
    shards: tuple[Shard, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hashes of the models that looked at clips, by the names of their settings."""

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return len(self.shards) == self.shard_count

    @property
    def samples(self) -> int:
        """Groups of frames in all finished shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Clips left out, each with the reason."""
        return [pair for shard in self.shards for pair in shard.skipped]

    def write(self, folder: Path) -> None:
        """Put it in its place in one step. Raises OutputError where that fails."""
        values = {
            "format": FORMAT,
            "evenreel": __version__,
            "complete": self.complete,
            "samples": self.samples,
            "skipped_clips": len(self.skipped),
            "settings": self.settings.to_json(),
            "source": dict(self.source),
            "models": dict(self.models),
            "shard_count": self.shard_count,
            "shards": [asdict(shard) for shard in self.shards],
        }
        write_atomically(folder / NAME, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a data set. Raises DataError where there is none, or a damaged one, or one of another
    version.
    """
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise DataError(
            f"{shown(path)} cannot be read ({reason}); give a folder made by `evenreel data build`."
        ) from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{shown(path)} is of format {found!r:.40} and this evenreel reads {FORMAT}; build the data again."
        )
    try:
        shards = tuple(
            _shard({**row, "skipped": tuple((str(a), str(b)) for a, b in row["skipped"])})
            for row in values["shards"]
        )
        settings = DataSettings.from_json(values["settings"])
        return Manifest(
            settings=settings,
            source=dict(values["source"]),
            shard_count=_count(values["shard_count"]),
            shards=shards,
            models={str(name): str(hashed) for name, hashed in values.get("models", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        reason = str(error) if isinstance(error, DataError) else "an entry is missing or of the wrong kind"
        raise DataError(f"{shown(path)} is damaged ({reason}); build the data again.") from error


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a number of shards")
    return value


def _shard(row: dict[str, Any]) -> Shard:
    shard = Shard(**row)
    counts = (shard.bytes, shard.samples, shard.clips, shard.dropped_captions)
    if not (
        isinstance(shard.file, str)
        and _SHARD.fullmatch(shard.file)
        and _DIGEST.fullmatch(shard.sha256)
        and all(isinstance(count, int) and count >= 0 for count in counts)
    ):
        raise DataError(f"the shard {shard.file!r} is described wrongly")
    return shard
