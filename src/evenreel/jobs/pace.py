"""How often to keep what was done: seldom enough that keeping costs little."""

import time
from collections.abc import Generator
from contextlib import contextmanager

LEAST = 1.0
"""Seconds between two times, at least."""
SHARE = 20
"""Keeping takes at most one part of so many of a run's time."""


class Pace:
    """Says when it is time again."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LEAST

    def due(self) -> bool:
        """Tell whether it is time to keep something."""
        return LEAST == 0 or time.monotonic() >= self._next

    @contextmanager
    def spent(self) -> Generator[None]:
        """Keep something while inside; what it took decides when it is time again."""
        start = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._next = now + max(LEAST, SHARE * (now - start))
