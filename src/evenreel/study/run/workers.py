"""Items shared by several processes, each with models of its own and one thread; results come as they are finished."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from evenreel.study.run.actions import Context
from evenreel.study.run.item_run import Planned, Recipe, run_item

_ready: list[tuple[Recipe, Context]] = []
"""In a worker: what it runs items with."""


def shared(recipe: Recipe, planned: Sequence[Planned], processes: int) -> Iterator[dict[str, Any]]:
    """Lines of the items, in the order in which they are finished.

    When the caller stops (Ctrl-C, an error), the workers are ended with what they are at, as they are when it dies.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(processes, len(planned)),
        mp_context=multiprocessing.get_context("spawn"),  # a fork would share locks of torch's threads
        initializer=_begin,
        initargs=(recipe,),
    )
    done = False
    try:
        for future in as_completed([pool.submit(_run, one) for one in planned]):
            yield future.result()
        done = True
    finally:
        if not done:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(recipe: Recipe) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _ready.append((recipe, recipe.context()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(planned: Planned) -> dict[str, Any]:
    recipe, context = _ready[0]
    return run_item(planned, context, recipe.frames)
