"""What hosts and inversions are and what they can be told, read from their own documentation."""

import ast
import dataclasses
import inspect
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evenreel import registry
from evenreel.errors import SettingsError
from evenreel.workflows.editing.invert import INVERSIONS


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
    return {name: describe_inversion(name).summary for name in INVERSIONS}


def describe_inversion(name: str) -> HostDescription:
    """An inversion with its settings, their defaults and meanings. Raises SettingsError for an unknown name."""
    if name not in INVERSIONS:
        raise SettingsError(f"there is no inversion {name!r}; there are: {', '.join(INVERSIONS)}.")
    return _described(name, INVERSIONS[name])


def _described(name: str, kind: type) -> HostDescription:
    meanings: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        meanings |= field_meanings(part)
    settings = tuple(
        HostSetting(f.name, None if f.default is dataclasses.MISSING else f.default, meanings.get(f.name, ""))
        for f in dataclasses.fields(kind)
        if f.init
    )
    return HostDescription(name, (inspect.getdoc(kind) or "").partition("\n")[0], settings)


def field_meanings(described: type) -> dict[str, str]:
    """The strings that stand below the fields of a class, on one line each; {} where there is no source to read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(described)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef)), [])
    meanings = {}
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            meanings[field.target.id] = " ".join(text.value.value.split())
    return meanings
