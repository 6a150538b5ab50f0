"""The one reader of settings: names and values from a command line, TOML, JSON or keywords, read as type hints say.

A settings class is a frozen dataclass. What a field may hold is its type, with `Range`, `NotEmpty` and the like in
`Annotated`; what fields ask of each other its `__post_init__` checks, after `settle(self)`.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_origin

from evenreel.errors import SettingsError, argument
from evenreel.settings.fields import Group, flat_name, groups, hints, leaves, members, rules, settable, split
from evenreel.settings.kinds import Formerly, check_text, each, refuse

Settings = TypeVar("Settings")


class _UnfitError(Exception):
    """A value is of another type than wanted."""


class Table(dict[str, Any]):
    """A dictionary that nobody can change: settings that are frozen must not change through one that they hold."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("settings cannot be changed; make new ones with dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = pop = popitem = clear = update = setdefault = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (dict(self),)


def read(kind: type[Settings], values: Mapping[str, Any], whose: str, *, within: str = "") -> Settings:
    """Make settings from names and plain values.

    `whose` says whose settings they are ("an edit", "host vidtome"), `within` what errors put before their names
    ("vidtome."). Raises: SettingsError for a name that there is not, a value of another type, one that is missing.
    """
    told = dict(values)
    for group in groups(kind):
        _gather(group, told)
    known = {one.name: one for one in settable(kind)}
    if unknown := sorted(told.keys() - known.keys()):
        names = ", ".join(sorted(leaf.name for leaf in leaves(kind)))
        listed = f"its settings are: {names}" if names else "it has no settings"
        raise SettingsError(f"{whose} has no setting {', '.join(map(str, unknown))[:200]}; {listed}.")
    for name, one in known.items():
        if name not in told and one.default is one.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{whose} needs {argument(within + flat_name(kind, name))}; add it.")
    return kind(
        **{
            name: convert(within + flat_name(kind, name), hints(kind)[name], value)
            for name, value in told.items()
        }
    )


def settle(settings: object, within: str = "") -> None:
    """Check every field of a settings object by its type, and keep values in their settled form; for `__post_init__`.

    `within` is what errors put before the names of fields ("vidtome."). Raises: SettingsError.
    """
    kind = type(settings)
    for one in settable(kind):
        value = convert(
            within + flat_name(kind, one.name), hints(kind)[one.name], getattr(settings, one.name)
        )
        object.__setattr__(settings, one.name, value)


def plain(settings: Any) -> dict[str, Any]:
    """Return settings under their flat names, with values that JSON can hold; `read` takes them back."""
    kind = cast("type[Any]", type(settings))
    absent = {group.name for group in groups(kind) if getattr(settings, group.name) is None}
    return {
        leaf.name: _plain(_alone(leaf.of(settings)) if leaf.several else leaf.of(settings))
        for leaf in leaves(kind)
        if leaf.path[0] not in absent or leaf.name in absent
    }


def _alone(values: list[Any] | None) -> Any:
    """A single one of what may be several as itself."""
    return values[0] if values is not None and len(values) == 1 else values


def convert(name: str, hint: Any, value: Any) -> Any:
    """Take a plain value as a type hint wants it. Raises: SettingsError for one that does not fit."""
    kind, added = split(hint)
    for renamed in added:
        if isinstance(renamed, Formerly) and isinstance(value, str):
            value = renamed.names.get(value, value)
    try:
        fitted = _fitted(name, kind, value)
    except _UnfitError:
        refuse(name, _in_words(kind), value)
    if fitted is not None:
        for rule in rules(hint):
            rule.check(name, fitted)
    return fitted


def _gather(group: Group, told: dict[str, Any]) -> None:
    """Put the settings of a group, told flat, under the name of the field that holds them."""
    main = told.pop(group.name, None)
    if any(isinstance(one, group.kind | Mapping) for one in _each(main)):
        told[group.name] = main
        return
    others = {flat: told.pop(flat) for flat in list(group.names)[1:] if flat in told}
    if main not in (None, "", [], ()):
        flat = {group.name: main, **others}
        told[group.name] = _spread(group, flat) if group.several else _inner(group, flat)
        return
    defaults = {leaf.name: leaf.default for leaf in leaves(group.kind)}
    for flat, value in others.items():
        default, hint = defaults[group.names[flat]], hints(group.kind)[group.names[flat]]
        # older records tell all of them
        for one in _each(value):
            if one in (default, None, ""):
                continue
            convert(flat, hint, one)
            raise SettingsError(
                f"{argument(flat)} is for {group.kind.noun}; name one with {argument(group.name)}, or leave it out."
            )


def _inner(group: Group, flat: Mapping[str, Any]) -> dict[str, Any]:
    return {group.names[name]: value for name, value in flat.items()}


def _spread(group: Group, flat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is told flat of several groups, each by itself; what is told once holds for all."""
    count = len(_each(flat[group.name]))
    columns: dict[str, list[Any]] = {}
    for name, value in flat.items():
        told = _each(value)
        if len(told) not in (1, count):
            raise SettingsError(
                f"{argument(name)} is given {len(told)} times, {argument(group.name)} {count} times; give it once for "
                f"all, or once for each in the order of {argument(group.name)}."
            )
        columns[name] = told * count if len(told) == 1 else told
    return [
        _inner(group, dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
    ]


def _each(value: Any) -> list[Any]:
    """The members of a list; a value that is none by itself."""
    return list(each(value))


def _fitted(name: str, kind: Any, value: Any) -> Any:
    among = members(kind)
    nothing = (
        value is None or (value == "" and str in among) or (isinstance(value, list | tuple) and not value)
    )
    if types.NoneType in among and nothing:
        return None  # older records say "" for nothing
    for member in among:
        if member is types.NoneType:
            continue
        try:
            return _as_member(name, *split(member)[:1], value)
        except _UnfitError:
            continue
    raise _UnfitError


def _as_member(name: str, kind: Any, value: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        return _if(value in inner if isinstance(value, str | int) else False, value)
    if kind is int or (kind is float and not isinstance(value, float)):
        whole = _if(isinstance(value, int) and not isinstance(value, bool), value)
        return whole if kind is int else _as_float(whole)
    if kind is str:
        check_text(name, _if(isinstance(value, str), value))
        return value
    if kind is Path:
        return Path(_if(isinstance(value, str | Path), value))
    if origin is tuple:
        return _as_tuple(name, inner, value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _as_table(name, inner[1], value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return read(kind, cast("Mapping[str, Any]", value), argument(name))
    return _if(isinstance(value, origin or kind), value)


def _as_tuple(name: str, inner: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if dataclasses.is_dataclass(inner[0]) and isinstance(value, inner[0] | Mapping):
        value = [value]
    parts = list(_if(isinstance(value, Sequence) and not isinstance(value, str), value))
    kinds = [inner[0]] * len(parts) if inner[1:] == (...,) else list(inner)
    _if(len(kinds) == len(parts), value)
    return tuple(_fitted(name, split(kind)[0], part) for kind, part in zip(kinds, parts, strict=True))


def _as_table(name: str, inner: Any, value: Any) -> Table:
    told = cast("Mapping[Any, Any]", _if(isinstance(value, Mapping), value))
    _if(all(isinstance(key, str) for key in told), value)
    return Table({key: _fitted(f"{name}.{key}", inner, one) for key, one in told.items()})


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise _UnfitError from error


def _if(fits: bool, value: Any) -> Any:
    if not fits:
        raise _UnfitError
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in each(value)]
    return str(value) if isinstance(value, Path) else value


def _in_words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if len(members(kind)) > 1:
        wanted = [_in_words(one) for one in members(kind) if one is not types.NoneType]
        return " or ".join([*wanted, *(["nothing"] if types.NoneType in members(kind) else [])])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        if inner[1:] == (...,):
            return f"a list, each {_in_words(inner[0])}"
        return f"({', '.join(_in_words(one) for one in inner)})"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "names with plain values"
    named = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return named.get(split(kind)[0], getattr(kind, "__name__", str(kind)))
