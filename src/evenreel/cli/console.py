"""What reaches the terminal: results on stdout; progress, warnings and errors on stderr."""

# pyright: reportDeprecated=false
# (contextlib.contextmanager over Iterator, as everywhere here)

import io
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from evenreel.cli.terminal_pictures import Previews, way
from evenreel.progress import Progress, silent

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID

UNBOUNDED = 10_000  # columns


class StoppedError(Exception):
    """A command was interrupted, and has something of its own to say of it."""


def stdout() -> Console:
    """Return where results go: as wide as the terminal; into a pipe or a file, as wide as the longest line."""
    wide = None if sys.stdout.isatty() else UNBOUNDED  # nothing is cut in a pipe
    return Console(highlight=False, soft_wrap=True, width=wide)


def escape_unprintable() -> None:
    """Make stdout and stderr escape what their encoding lacks (hostile file names, cp1252) rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Write one line on stderr; of names that no file can have, the middle is left out."""
    short = re.sub(r"\S{300,}", lambda match: f"{match[0][:100]}...{match[0][-50:]}", message)
    sys.stderr.write(f"evenreel: {' '.join(short.split())}\n")
    sys.stderr.flush()


class _Warnings(logging.Handler):
    """Shows what the library logs as warnings the way errors are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(f"warning: {record.getMessage()}")


def show_warnings() -> None:
    """Show the library's warnings on stderr from here on, one line each."""
    library = logging.getLogger("evenreel")
    if not any(isinstance(handler, _Warnings) for handler in library.handlers):
        library.addHandler(_Warnings(logging.WARNING))


@contextmanager
def _without_warnings() -> Generator[None]:
    library = logging.getLogger("evenreel")
    before = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(before)


class JsonLines:
    """A line of JSON on stdout whenever a stage begins, moves on (ten times a second at most) or ends."""

    def __init__(self) -> None:
        self.stage, self.told = "", 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage != self.stage or done == total or now - self.told >= 0.1:
            self.stage, self.told = stage, now
            print_json({"event": "progress", "stage": stage, "done": done, "total": total})


def print_json(values: Mapping[str, object]) -> None:
    """Print one line of JSON at once, for a program that listens."""
    sys.stdout.write(json.dumps(values, ensure_ascii=True) + "\n")
    sys.stdout.flush()


@contextmanager
def shown_progress(
    quiet: bool, as_json: bool = False, latest: Callable[[], Path | None] | None = None
) -> Generator[Progress]:
    """Show bars with the time left on a terminal, one plain line for each finished stage elsewhere, nothing when quiet.

    Where the terminal can show pictures, those that `latest` finds as the work goes on appear above the bars.
    """
    if as_json:
        yield JsonLines()
    elif quiet:
        with _without_warnings():  # records keep them
            yield silent
    elif sys.stderr.isatty():
        with _bars() as progress:
            shows = way(True)
            yield (
                progress
                if latest is None or shows is None
                else Previews(progress, progress.bars.console, shows, latest)
            )
    else:
        yield StageLines()


@contextmanager
def _bars() -> "Generator[StageBars]":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    class Rate(ProgressColumn):
        """How many a second, or how many seconds each."""

        def render(self, task: "Task") -> str:
            return rate(task.finished_speed or task.speed)

    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("[dim]left[/]"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield StageBars(bars)


def rate(speed: float | None) -> str:
    """Write how many are done a second, or, of slow ones, how long each takes."""
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


class StageBars:
    """One bar for each stage of a workflow."""

    def __init__(self, bars: "Bars") -> None:
        self.bars = bars
        self.tasks: "dict[str, TaskID]" = {}
        self.current: str | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        told, stage = stage, stage.partition(": ")[0]
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(told, total=total)
        if stage != self.current and self.current is not None:
            self._finish(self.current)
        self.current = stage
        self.bars.update(self.tasks[stage], description=told, completed=done, total=total)

    def _finish(self, stage: str) -> None:
        # A stage whose length nobody knew is complete when the next begins.
        task = next(task for task in self.bars.tasks if task.id == self.tasks[stage])
        if task.total is None:
            self.bars.update(task.id, total=max(task.completed, 1), completed=max(task.completed, 1))


class StageLines:
    """A line when a stage begins and another when it ends: readable in a log file."""

    def __init__(self) -> None:
        self.current: str | None = None
        self.start = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        stage = stage.partition(": ")[0]
        if stage != self.current:
            self.current, self.start = stage, time.perf_counter()
            self._line(f"{stage} ..." if total is None else f"{stage} (0 of {total}) ...")
        if total is not None and done >= total > 0:
            self._line(f"{stage} done in {time.perf_counter() - self.start:.1f} s")

    @staticmethod
    def _line(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
