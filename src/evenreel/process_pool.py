"""Worker processes: how every one begins, and work shared between some that report, stop and end together."""

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import torch

from evenreel.errors import ResourceError, argument

Task = TypeVar("Task")
Result = TypeVar("Result")
POLL_SECONDS = 0.2


Tick = Callable[[int], None]
"""What a task calls again and again, with the units of work done since; raises Stopped when it is to end."""


class Stopped(Exception):  # noqa: N818  (ends a task; nobody sees it)
    """The work is called off."""


def work(
    function: Callable[[Task, Tick], Result],
    tasks: Sequence[Task],
    workers: int,
    report: Callable[[int], None],
    *,
    at_once: bool = False,
) -> Generator[Result, None, None]:
    """Yield results of `function(task, tick)` as they come, from up to `workers` processes; `report` gets units done.

    Each works on one thread, so that results do not depend on how many there are. When the caller leaves, by an error
    or an interrupt, tasks end at their next tick, or `at_once`, for tasks that take long from one to the next.
    Raises ResourceError where a process is killed, and what tasks raise.
    """
    if min(workers, len(tasks)) <= 1:
        yield from _alone(function, tasks, report)
        return
    context = get_context("spawn")
    done, stop = context.Value("Q", 0), context.Event()
    others, whole = set(active_children()), False
    pool = executor(min(workers, len(tasks)), _share, done, stop)
    try:
        pending = {pool.submit(_run, function, task) for task in tasks}
        while pending:
            finished, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            report(done.value)
            for future in finished:
                yield future.result()
        whole = True
    except BrokenProcessPool as error:
        raise ResourceError(
            "a worker process was killed, most likely for want of memory; run the same again with fewer "
            f"{argument('workers')}."
        ) from error
    finally:
        stop.set()
        if at_once and not whole:
            for process in set(active_children()) - others:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(
    function: Callable[[Task, Tick], Result], tasks: Sequence[Task], report: Callable[[int], None]
) -> Iterator[Result]:
    total = 0

    def tick(done: int) -> None:
        nonlocal total
        total += done
        if done:
            report(total)

    for task in tasks:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            result = function(task, tick)
        finally:
            torch.set_num_threads(threads)
        yield result


def executor(workers: int, then: Callable[..., None] | None = None, *given: Any) -> ProcessPoolExecutor:
    """Return an executor of so many workers of one thread each, which call `then(*given)` when they have begun."""
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(then, *given)
    )


def begin_worker(threads: int) -> None:
    """Make this process a worker: so many threads, deaf to Ctrl-C, ended when its parent is gone.

    Ctrl-C in a terminal reaches every process; the parent decides what becomes of the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _begin(then: Callable[..., None] | None, *given: Any) -> None:
    begin_worker(1)
    if then is not None:
        then(*given)


_shared: tuple[Any, Any] | None = None
"""In a worker: the units done by all, and the event that calls the work off."""


def _share(done: Any, stop: Any) -> None:
    global _shared
    _shared = done, stop


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(function: Callable[[Task, Tick], Result], task: Task) -> Result:
    return function(task, _tick)


def _tick(done: int) -> None:
    assert _shared is not None
    count, stop = _shared
    if stop.is_set():
        raise Stopped
    if done:
        with count.get_lock():
            count.value += done
