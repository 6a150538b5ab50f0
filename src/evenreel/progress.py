"""How a workflow says what it is doing: one callable, so that a terminal, a web page or a test can listen."""

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class Progress(Protocol):
    """Called whenever a stage begins or moves on.

    `stage` is a short name for people ("invert"), `done` counts from 0, and `total` is None while it is unknown.
    A stage is over when another begins or `done` reaches `total`. What follows a colon in its name is news of the
    stage ("train: loss 0.2"), not another one.
    """

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Do nothing with what a workflow tells of its progress."""
    del stage, done, total


def tracked(
    items: Iterable[Item], progress: Progress, stage: str, total: int | None = None, done: int = 0
) -> Iterator[Item]:
    """Pass items on, reporting each when the consumer comes back for the next; `done` of them came before."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress(stage, done, total)
    for done, item in enumerate(items, done + 1):  # noqa: B020 - counted on
        yield item
        progress(stage, done, total)
