"""Time for fuzzing is shared by all kinds that are tried."""

import pytest

from fuzz.trying import SECONDS

_SHARES: list[float] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count them."""
    count = sum("seconds" in getattr(item, "fixturenames", ()) for item in session.items)
    _SHARES[:] = [SECONDS / max(1, count)]


@pytest.fixture
def seconds() -> float:
    """For one kind."""
    return _SHARES[0]
