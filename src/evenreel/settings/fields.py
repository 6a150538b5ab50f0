"""The fields of a settings class as everybody sees them: flat names, types, defaults, and the strings below them.

Settings that belong together stand in a class of their own, which a field holds or None: `adapter: AdapterUse | None`.
Command lines, files and Python keywords write them flat: the first field of the class under the name of the holding
field (`adapter`), which is also the `prefix` of the others (`adapter_scale`). A field may hold several of them
(`control: tuple[ControlUse, ...] | None`): then each flat name has a list, in the same order.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from evenreel.settings.kinds import Option, Rule


@dataclass(frozen=True)
class Group:
    """A field that holds settings of their own, or None."""

    name: str
    kind: type[Any]
    names: Mapping[str, str]
    """Flat names and the fields of `kind` that they mean; the first is that of the holding field."""
    several: bool
    """Whether the field holds a tuple of them."""


@dataclass(frozen=True)
class Leaf:
    """One setting."""

    name: str
    """As command lines, files and keywords call it."""
    path: tuple[str, ...]
    """Names of the fields that lead to it."""
    hint: Any
    """Its type, without what `Annotated` adds."""
    default: Any
    """`dataclasses.MISSING` where it must be told."""
    help: str
    """The string below the field, on one line."""
    added: tuple[Any, ...] = ()
    """What `Annotated` adds to the type."""
    several: bool = False
    """Whether it may be given several times, once for each group that the field holds."""

    @property
    def option(self) -> Option:
        """How the command line shows it."""
        return next((one for one in self.added if isinstance(one, Option)), Option())

    def of(self, settings: object) -> Any:
        """Return the value in some settings; None if the settings that hold it are absent, a list if several do."""
        value: Any = settings
        for name in self.path:
            if isinstance(value, tuple):
                value = [getattr(one, name) for one in cast("tuple[Any, ...]", value)]
            else:
                value = None if value is None else getattr(value, name)
        return value


@cache
def hints(kind: type) -> dict[str, Any]:
    """Return types of the fields of a class, with what `Annotated` adds."""
    return get_type_hints(kind, include_extras=True)


def split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type and what `Annotated` adds to it."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union; a type that is none by itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def flat_name(kind: type, field: str) -> str:
    """Return what a field is called where all settings are written flat."""
    prefix: str | None = getattr(kind, "prefix", None)
    if prefix is None:
        return field
    return prefix if field == next(settable(kind)).name else f"{prefix}_{field}"


def group_of(name: str, hint: Any) -> Group | None:
    """Return the group that a field holds; None for a field that is a setting itself."""
    for held in members(split(hint)[0]):
        several = get_origin(held) is tuple and get_args(held)[1:] == (...,)
        member = get_args(held)[0] if several else held
        if dataclasses.is_dataclass(member) and isinstance(member, type) and hasattr(member, "prefix"):
            assert flat_name(member, next(settable(member)).name) == name, (
                "a group's first setting bears the name of the field that holds it"
            )
            names = {flat_name(member, one.name): one.name for one in settable(member)}
            return Group(name, member, names, several)
    return None


@cache
def groups(kind: type) -> tuple[Group, ...]:
    """Return the groups among the fields of a class."""
    found = (group_of(one.name, hints(kind)[one.name]) for one in settable(kind))
    return tuple(group for group in found if group is not None)


def settable(kind: type) -> Iterator[dataclasses.Field[Any]]:
    """Yield the fields that a caller may set."""
    return (one for one in dataclasses.fields(kind) if one.init)


@cache
def leaves(kind: type) -> tuple[Leaf, ...]:
    """Return all settings of a class, those of groups among them, in the order in which they are written down."""
    held, docs = {group.name: group for group in groups(kind)}, field_docs(kind)
    found: list[Leaf] = []
    for one in settable(kind):
        if one.name in held:
            group = held[one.name]
            inner = {leaf.name: leaf for leaf in leaves(group.kind)}
            for flat, name in group.names.items():
                leaf = inner[name]
                default = None if leaf.default is dataclasses.MISSING else leaf.default
                found.append(
                    dataclasses.replace(
                        leaf, name=flat, path=(one.name, name), default=default, several=group.several
                    )
                )
            continue
        hint, added = split(hints(kind)[one.name])
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        found.append(Leaf(one.name, (one.name,), hint, default, docs.get(one.name, ""), added))
    return tuple(found)


def rules(hint: Any) -> tuple[Rule, ...]:
    """Return what `Annotated` asks of the values of a type."""
    return tuple(rule for rule in split(hint)[1] if isinstance(rule, Rule))


def field_docs(kind: type) -> dict[str, str]:
    """Return the strings that stand below the fields of a class and of those it derives from, each on one line.

    Fields of classes whose source cannot be read have none.
    """
    docs: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        docs |= _own_docs(part)
    return docs


@cache  # the source is read and parsed; callers only read what comes back
def _own_docs(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    nothing: list[ast.stmt] = []
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef)), nothing)
    docs: dict[str, str] = {}
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            docs[field.target.id] = " ".join(text.value.value.split())
    return docs
