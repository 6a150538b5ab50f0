from concurrent.futures import Executor, Future
from contextlib import contextmanager

import pytest


class Here(Executor):
    """A pool that works at once, where it is."""

    def submit(self, fn, /, *args, **kwargs):
        done = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture(scope="session")
def rendered_here():
    """Scenes are rendered in this process, while inside: starting those that would do it takes seconds."""

    @contextmanager
    def here():
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("evenreel.process_pool.executor", lambda *_: Here())
            yield

    return here
