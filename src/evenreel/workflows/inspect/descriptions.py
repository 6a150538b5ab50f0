"""What hosts and inversions are and what they can be told, read from their own documentation."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

from evenreel import registry
from evenreel.settings.fields import leaves


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
    """Every registered host and the first line of its documentation."""
    return {name: describe_host(name).summary for name in registry.names(registry.HOSTS)}


def describe_host(name: str) -> HostDescription:
    """A host with its settings, their defaults and meanings. Raises PluginError for an unknown name."""
    return _described(name, registry.find(registry.HOSTS, name))


def inversion_summaries() -> dict[str, str]:
    """Every inversion and the first line of its documentation."""
    return {name: describe_inversion(name).summary for name in registry.names(registry.INVERSIONS)}


def describe_inversion(name: str) -> HostDescription:
    """An inversion with its settings, their defaults and meanings. Raises PluginError for an unknown name."""
    return _described(name, registry.find(registry.INVERSIONS, name))


def _described(name: str, kind: type) -> HostDescription:
    settings = tuple(
        HostSetting(leaf.name, None if leaf.default is dataclasses.MISSING else leaf.default, leaf.help)
        for leaf in leaves(kind)
    )
    return HostDescription(name, (inspect.getdoc(kind) or "").partition("\n")[0], settings)
