"""Items shared by several processes, each with models of its own and one thread; results come as they are finished."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evenreel import process_pool
from evenreel.study.run.actions import Context
from evenreel.study.run.item_run import Planned, Recipe, run_item

_contexts: dict[Path, Context] = {}
"""In a worker: the models that it has loaded, by the study's folder."""


def shared(recipe: Recipe, planned: Sequence[Planned], processes: int) -> Iterator[dict[str, Any]]:
    """Yield lines of the items, in the order in which they are finished.

    When the caller stops (Ctrl-C, an error), the workers are ended with what they are at, as they are when it dies.
    """
    return process_pool.work(partial(_run, recipe), planned, processes, lambda _: None, at_once=True)


def _run(recipe: Recipe, planned: Planned, tick: process_pool.Tick) -> dict[str, Any]:
    del tick  # an item is one unit, and ended at once
    if recipe.frames not in _contexts:
        _contexts[recipe.frames] = recipe.context()
    return run_item(planned, _contexts[recipe.frames], recipe.frames)
