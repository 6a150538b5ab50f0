"""How a workflow says what it is doing: one callable, so that a terminal, a web page or a test can listen."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol, TypeVar, runtime_checkable

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


class Bars:
    """A bar for each stage, in a terminal or a notebook."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Move the bar of a stage on; that of the stage before is over."""
        from tqdm.auto import tqdm

        name, _, news = stage.partition(":")
        if self._bar is None or name != self._stage:
            self.close()
            self._bar, self._stage = tqdm(desc=name, total=total), name
        self._bar.set_postfix_str(news.strip(), refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def listener(told: "Progress | bool") -> Progress:
    """Return who listens: bars for True, nobody for False, and any other as it is."""
    if isinstance(told, bool):
        return Bars() if told else silent
    return told


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
