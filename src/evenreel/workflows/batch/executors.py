"""Where rows are made: here, or in processes. A worker that dies costs its row nothing but time.

A row's job keeps what was done, so that the row goes on with another worker, to the same result.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from evenreel.process_pool import begin_worker
from evenreel.progress import Progress
from evenreel.workflows.batch.table import Row
from evenreel.workflows.batch.worker import Outcome, Worker

TRIES = 3
"""Workers that may die of a row before it counts as failed."""
POLL_SECONDS = 0.5
DIED = (
    "its worker was killed {} times, most likely for want of memory; run it alone, or with a smaller batch."
)

Heard = Callable[[Row], Progress]
"""Who listens to a row."""
Watch = Callable[[Sequence[Row]], None]
"""Called now and then with the rows that are being made."""


def inline(rows: Sequence[Row], heard: Heard) -> Iterator[Outcome]:
    """Make rows one after the other in this process."""
    worker = Worker()
    for row in rows:
        yield worker.make(row, heard(row))


class _Process:
    """A worker in a process of its own, and the row that it has."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.row: Row | None = None

    def take(self, row: Row) -> None:
        self.row = row
        self.pipe.send(row)

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def serve(pipe: Connection, threads: int) -> None:
    """Make the rows that come through a pipe, until it is closed."""
    begin_worker(threads)
    worker = Worker()
    while True:
        try:
            row = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(worker.make(row))


def processes(rows: Sequence[Row], workers: int, watch: Watch) -> Iterator[Outcome]:
    """Make rows in so many processes, each with a model of its own; all compute on as many threads as this one does."""
    waiting, tries = list(rows), dict.fromkeys((row.number for row in rows), 0)
    threads = torch.get_num_threads()
    busy: dict[Any, _Process] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                one = _Process(threads)
                one.take(waiting.pop(0))
                busy[one.pipe] = one
            watch([one.row for one in busy.values() if one.row is not None])
            for pipe in wait(list(busy), POLL_SECONDS):
                one = busy[pipe]
                assert one.row is not None, "it has one until it answers"
                try:
                    yield one.pipe.recv()
                    if waiting:
                        one.take(waiting.pop(0))
                        continue
                except (EOFError, OSError):
                    tries[one.row.number] += 1
                    if tries[one.row.number] < TRIES:
                        waiting.insert(0, one.row)
                    else:
                        yield Outcome(one.row.number, str(one.row.output), error=DIED.format(TRIES))
                del busy[pipe]
                one.end()
    finally:
        for one in busy.values():
            one.end()
