"""What the registered hosts are and what they can be told, read from their own documentation."""

import ast
import dataclasses
import inspect
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evenreel import registry


@dataclass(frozen=True)
class HostSetting:
    """One field of a host."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class HostDescription:
    """A host for people."""

    name: str
    summary: str
    settings: tuple[HostSetting, ...]


def host_summaries() -> dict[str, str]:
    """Every registered host and the first line of its documentation."""
    return {name: describe_host(name).summary for name in registry.names(registry.HOSTS)}


def describe_host(name: str) -> HostDescription:
    """A host with its settings, their defaults and meanings. Raises PluginError for an unknown name."""
    host_class = registry.find(registry.HOSTS, name)
    meanings = field_meanings(host_class)
    settings = tuple(
        HostSetting(f.name, None if f.default is dataclasses.MISSING else f.default, meanings.get(f.name, ""))
        for f in dataclasses.fields(host_class)
        if f.init
    )
    return HostDescription(name, (inspect.getdoc(host_class) or "").partition("\n")[0], settings)


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
