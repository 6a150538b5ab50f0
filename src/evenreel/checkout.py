"""The pyproject.toml beside the sources, where evenreel runs from a checkout: it says more than what was installed."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def project() -> Mapping[str, Any] | None:
    """Return the table `project` of that file; None where evenreel is installed, and there is no such file."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    if not file.is_file():
        return None
    found = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    return found if found.get("name") == "evenreel" else None
