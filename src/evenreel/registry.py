"""Hosts, backbones and metrics by name: entry points, through which built-ins and plug-ins come alike."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from evenreel.errors import PluginError

HOSTS = "evenreel.hosts"
"""Entry-point group of hosts: classes whose fields are settings."""
BACKBONES = "evenreel.backbones"
"""Entry-point group of backbones: functions (location, *, device, dtype, download) -> Backbone."""
METRICS = "evenreel.metrics"
"""Entry-point group of metrics: classes derived from `evenreel.metrics.base.Metric`."""


def names(group: str) -> tuple[str, ...]:
    """What a group offers, in alphabetical order."""
    return tuple(sorted({entry.name for entry in entry_points(group=group)}))


def find(group: str, name: str) -> Any:
    """Load what `name` stands for in a group.

    Raises: PluginError when there is no such name, when two packages claim it, or when it fails to load.
    """
    kind = group.rpartition(".")[2].removesuffix("s")
    match _entries(group, name):
        case []:
            known = ", ".join(names(group)) or "none; install evenreel again"
            raise PluginError(f"there is no {kind} {name!r}; there are: {known}.")
        case [entry]:
            return _load(kind, entry)
        case several:
            origins = ", ".join(sorted(entry.value for entry in several))
            raise PluginError(
                f"several packages offer the {kind} {name!r} ({origins}); uninstall all but one."
            )


def _entries(group: str, name: str) -> list[EntryPoint]:
    # One package may be found twice (an editable install beside a built one): equal targets count once.
    found = {entry.value: entry for entry in entry_points(group=group, name=name)}
    return list(found.values())


def _load(kind: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a plug-in may fail in any way at all
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"the {kind} {entry.name!r} ({entry.value}) fails to load ({reason}).") from error
