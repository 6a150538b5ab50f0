"""Where jobs and inversions lie, and how much room they may take."""

import os
import platform
from pathlib import Path

from evenreel.errors import SettingsError
from evenreel.files import expanded, shown

ROOT, LIMIT = "EVENREEL_CACHE", "EVENREEL_CACHE_LIMIT"
DEFAULT_LIMIT = 8.0
"""GB."""


def root() -> Path:
    """Return the folder that everything is kept in: EVENREEL_CACHE, else one in the user's cache."""
    if told := os.environ.get(ROOT):
        return expanded(told).absolute()
    home = expanded("~")
    if platform.system() == "Darwin":
        return home / "Library" / "Caches" / "evenreel"
    if platform.system() == "Windows":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "evenreel" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "evenreel"


def jobs() -> Path:
    """Return the folder of jobs that were given none of their own."""
    return root() / "jobs"


def inversions() -> Path:
    """Return the folder of inversions that edits share."""
    return root() / "inversions"


def limit() -> int:
    """Return how many bytes inversions may take once no job needs them. Raises: SettingsError."""
    told = os.environ.get(LIMIT) or str(DEFAULT_LIMIT)
    try:
        gigabytes = float(told)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise SettingsError(
            f"{LIMIT} must be a number of gigabytes, got {shown(told)!r}; correct it, or unset it."
        )
    return int(gigabytes * 1e9)


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files; 0 where there is none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total
