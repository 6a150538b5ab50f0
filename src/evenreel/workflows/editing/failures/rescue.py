"""Pictures that took hours, kept where the result that they were made for cannot be written."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from evenreel.errors import OutputError, argument
from evenreel.files import shown
from evenreel.video import VideoWriter


def with_pictures_kept(
    error: OutputError,
    target: Path,
    size: tuple[int, int],
    write: Callable[[VideoWriter], object],
    *,
    rate: Fraction | None = None,
) -> OutputError:
    """Write the pictures alone, beside the result or in the system's folder for temporary files.

    `write` writes them again into a writer for frames of (width, height) `size`, at `rate` where they have no times.
    Returns the error to raise: it says where they are, or it is `error` itself where they cannot be kept either.
    """
    for folder in (target.parent, Path(tempfile.gettempdir())):
        path = _free(folder, f"{target.stem}-pictures")
        with suppress(OutputError):
            with VideoWriter(path, *size, rate=rate) as writer:
                write(writer)
            return OutputError(
                f"{error.spelled(argument).rstrip('.')}; the pictures, without sound, are kept as {shown(path)}."
            )
    return error


def _free(folder: Path, stem: str) -> Path:
    """A name that is not taken; Matroska, because it holds whatever pictures there are."""
    number = 1
    path = folder / f"{stem}.mkv"
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.mkv"
    return path
