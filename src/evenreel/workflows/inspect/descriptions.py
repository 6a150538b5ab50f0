"""What hosts and inversions are and what they can be told, read from their own documentation."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

from evenreel import registry
from evenreel.errors import PluginError
from evenreel.settings.fields import leaves
from evenreel.sources import read_class


@dataclass(frozen=True)
class HostSetting:
    """One field of a host or an inversion."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class HostDescription:
    """A host or an inversion for people."""

    name: str
    summary: str
    settings: tuple[HostSetting, ...]


def host_summaries() -> dict[str, str]:
    """Return every registered host with the first line of its documentation; or why one fails to load."""
    return _summaries(registry.HOSTS)


def describe_host(name: str) -> HostDescription:
    """Return a host with its settings, their defaults and meanings. Raises PluginError for an unknown name."""
    return _described(name, registry.find(registry.HOSTS, name))


def inversion_summaries() -> dict[str, str]:
    """Return every inversion with the first line of its documentation; or why one fails to load."""
    return _summaries(registry.INVERSIONS)


def describe_inversion(name: str) -> HostDescription:
    """Return an inversion with its settings, their defaults and meanings. Raises PluginError for an unknown name."""
    return _described(name, registry.find(registry.INVERSIONS, name))


def _summaries(group: str) -> dict[str, str]:
    targets = registry.targets(group)
    summaries: dict[str, str] = {}
    for name in registry.names(group):
        source = read_class(targets[name]) if name in targets else None
        try:
            summaries[name] = (
                _described(name, registry.find(group, name)).summary
                if source is None
                else first_line(source.doc)
            )
        except PluginError as error:  # somebody else's fault must not take the list away
            summaries[name] = str(error)
    return summaries


def first_line(doc: str) -> str:
    """Return what a docstring says in short."""
    return doc.partition("\n")[0]


def _described(name: str, kind: type) -> HostDescription:
    settings = tuple(
        HostSetting(leaf.name, None if leaf.default is dataclasses.MISSING else leaf.default, leaf.help)
        for leaf in leaves(kind)
    )
    return HostDescription(name, first_line(inspect.getdoc(kind) or ""), settings)
