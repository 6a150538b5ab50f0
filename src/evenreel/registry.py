"""Hosts, inversions, backbones and metrics by name: entry points, through which built-ins and plug-ins come alike.

In a checkout, what its pyproject.toml registers counts before it is installed again.
"""

import sys
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import walk_tb
from typing import Any

from evenreel.checkout import project
from evenreel.errors import PluginError

HOSTS = "evenreel.hosts"
"""Entry-point group of hosts: classes whose fields are settings."""
BACKBONES = "evenreel.backbones"
"""Entry-point group of backbones: functions (location, *, device, dtype, download) -> Backbone."""
INVERSIONS = "evenreel.inversions"
"""Entry-point group of inversions: classes whose fields are settings."""
METRICS = "evenreel.metrics"
"""Entry-point group of metrics: classes derived from `evenreel.metrics.base.Metric`."""


def names(group: str) -> tuple[str, ...]:
    """Return what a group offers, in alphabetical order."""
    return tuple(sorted({entry.name for entry in _registered(group)}))


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


def targets(group: str) -> dict[str, str]:
    """Return what names of a group stand for, as `module:attribute`; those that two packages claim are left out."""
    found: dict[str, set[str]] = {}
    for entry in _registered(group):
        found.setdefault(entry.name, set()).add(entry.value)
    return {name: next(iter(values)) for name, values in sorted(found.items()) if len(values) == 1}


def plug_in_of(error: BaseException) -> str | None:
    """Return the package of the plug-in whose code raised an exception, or called what raised it; None without one."""
    groups = (HOSTS, BACKBONES, INVERSIONS, METRICS)
    packages = {
        entry.value.partition(":")[0].partition(".")[0] for group in groups for entry in _registered(group)
    }
    frames = [
        frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)
    ]
    return next((name for name in reversed(frames) if name in packages - {"evenreel"}), None)


def is_backbone(model: str, name: str | None = None) -> bool:
    """Tell whether `model` is `name`, or `name:location`, of a registered backbone (any when None)."""
    family = model.partition(":")[0]
    return family in names(BACKBONES) and name in (None, family)


def _entries(group: str, name: str) -> list[EntryPoint]:
    # One package may be found twice (an editable install beside a built one): equal targets count once.
    found = {entry.value: entry for entry in _registered(group) if entry.name == name}
    return list(found.values())


def _registered(group: str) -> list[EntryPoint]:
    own = [entry for entry in _of_checkout() if entry.group == group]
    here = {entry.name for entry in own}
    # what was installed of the checkout may be older, and say of a name that it lies elsewhere
    installed = (
        entry
        for entry in _installed(entry_points, group, _places())
        if not (entry.name in here and entry.value.startswith("evenreel."))
    )
    return [*installed, *own]


@lru_cache(maxsize=64)
def _installed(
    search: Callable[..., Any], group: str, places: tuple[tuple[str, int], ...]
) -> tuple[EntryPoint, ...]:
    """What packages register; kept while no package comes or goes, since all of them are read for it."""
    del places
    return tuple(search(group=group))


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when each of these folders changed last."""
    found: list[tuple[str, int]] = []
    for path in sys.path:
        try:
            found.append((path, Path(path or ".").stat().st_mtime_ns))
        except OSError:
            found.append((path, 0))
    return tuple(found)


@cache
def _of_checkout() -> tuple[EntryPoint, ...]:
    """What the pyproject.toml beside the sources registers; nothing where there is none."""
    groups = (project() or {}).get("entry-points", {})
    return tuple(
        EntryPoint(name, value, group) for group, named in groups.items() for name, value in named.items()
    )


def _load(kind: str, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a plug-in may fail in any way at all
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"the {kind} {entry.name!r} ({entry.value}) fails to load ({reason}).") from error
