"""One model, several threads: whoever changes it, or calls it, has it alone for as long as that takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

from evenreel.errors import ResourceError

POLL_SECONDS = 1.0
"""How often who waits looks whether the model has gone into training meanwhile."""


class _Turn:
    """Whose turn it is with a model."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.training = False


_turns: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()
_turns_lock = Lock()


@contextmanager
def exclusive(model: Any, *, training: bool = False) -> Iterator[None]:
    """Keep other threads off a network (any object that can be referenced weakly) while inside.

    They wait; but while it is inside for `training`, which takes hours, they get a ResourceError. A thread that has the
    network already passes, so that what attaches to it can be nested. Whoever enters leaves in the same thread.
    """
    with _turns_lock:
        turn = _turns.setdefault(model, _Turn())
    while not turn.lock.acquire(timeout=POLL_SECONDS if not turn.training else 0):
        if turn.training:
            raise ResourceError(
                "this model is being trained with in another thread; load it once more for other work."
            )
    before, turn.training = turn.training, turn.training or training
    try:
        yield
    finally:
        turn.training = before
        turn.lock.release()


loading = RLock()
"""Held while weights are read: the model libraries change global state meanwhile."""


class loaded_once(cached_property):  # noqa: N801 - used as a decorator, as `cached_property` is
    """A property that is computed once, also where several threads ask for it first at the same time.

    One thread computes at a time, whatever the object.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Return the value; compute it where there is none yet."""
        with loading:
            return super().__get__(instance, owner)
