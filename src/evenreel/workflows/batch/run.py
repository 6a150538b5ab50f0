"""A table, from its file to results."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenreel.errors import EvenreelError, SettingsError, argument
from evenreel.files import shown
from evenreel.jobs import places
from evenreel.jobs.job import Job
from evenreel.progress import Progress, silent
from evenreel.video import probe
from evenreel.workflows.batch import executors, on_ray, table
from evenreel.workflows.batch.table import Row
from evenreel.workflows.batch.worker import Outcome
from evenreel.workflows.editing.records import record

EXECUTORS = ("inline", "processes", "ray")


@dataclass(frozen=True)
class Batch:
    """A table that was read, and where it is made."""

    rows: Sequence[Row]
    executor: str = "inline"
    workers: int | None = None
    again: bool = False
    """Whether rows whose results are there are made again."""

    def run(self, progress: Progress = silent) -> Iterator[Outcome]:
        """Make what is not there yet; yields what became of each row, as it comes.

        `progress` hears of the rows that are done as the stage `rows`, with news of those being made.
        """
        finished, total = 0, len(self.rows)

        def told(news: str = "") -> None:
            progress(f"rows: {news}" if news else "rows", finished, total)

        told()
        missing: list[Row] = []
        for row in self.rows:
            if not self.again and is_made(row):
                finished += 1
                yield Outcome(row.number, str(row.output), found=True)
            else:
                missing.append(row)
        told()
        for outcome in self._made(missing, told):
            finished += 1
            told()
            yield outcome

    def _made(self, rows: Sequence[Row], told: Callable[[str], None]) -> Iterator[Outcome]:
        if self.executor == "inline":

            def heard(row: Row) -> Progress:
                def progress(stage: str, done: int, total: int | None) -> None:
                    told(_news(row, stage, done, total))

                return progress

            return executors.inline(rows, heard)

        def watch(busy: Sequence[Row]) -> None:
            told("; ".join(filter(None, map(_how_far, busy))))

        if self.executor == "processes":
            return executors.processes(rows, self.workers or 2, watch)
        return on_ray.on_ray(rows, self.workers, watch)


def read(
    path: Path,
    *,
    out: str | None = None,
    executor: str = "inline",
    workers: int | None = None,
    again: bool = False,
    download: bool = False,
) -> Batch:
    """Read a table and check all of it. Raises: DataError, SettingsError."""
    if executor not in EXECUTORS:
        raise SettingsError(
            f"{argument('executor')} must be one of {', '.join(EXECUTORS)}, got {executor!r}."
        )
    if workers is not None and executor == "inline":
        raise SettingsError(
            f"{argument('workers')} has no effect on the executor inline; leave it out, or choose processes."
        )
    return Batch(table.read(path, out, download=download), executor, workers, again)


def is_made(row: Row) -> bool:
    """Return whether a row's result is there: made from this clip with these settings, and not changed since."""
    try:
        told = record.read_record(record.record_path(row.output))
        info = probe(row.output)
        same = told["output"]["sha256"] == record.hash_of(info.images or (info.path,))
        source = probe(row.source)
        return (
            same
            and told.get("job") == row.task.name
            and told["source"]["sha256"] == record.hash_of(source.images or (source.path,))
        )
    except (EvenreelError, OSError, KeyError, TypeError):
        return False


def _how_far(row: Row) -> str:
    """As the row's job says, which whoever makes it writes."""
    try:
        state = Job.read(places.jobs() / row.task.name).state
    except EvenreelError:
        return ""
    return _news(row, state.stage, state.done, state.total) if state.stage else ""


def _news(row: Row, stage: str, done: int, total: int | None) -> str:
    return f"{shown(row.output.name)} {stage} {done}{'' if total is None else f' of {total}'}"
