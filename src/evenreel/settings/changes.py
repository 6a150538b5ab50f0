"""Full settings, changed in what was told: for commands whose defaults are recipes, such as `evenreel train adapter`.

Settings hold settings (`training.loop.steps`); what is told is flat. Every field with an `Option` in its `Annotated` is
told under its own name, or under that which the option gives it (`Option(name="edit_steps")`); fields of one name in
several places are told together. Fields without an `Option` are followed where they hold settings, and never told.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

from evenreel.errors import SettingsError
from evenreel.settings.fields import Leaf, field_docs, hints, members, settable, split
from evenreel.settings.kinds import Option
from evenreel.settings.reader import convert

Settings = TypeVar("Settings")


def options(kind: type) -> tuple[Leaf, ...]:
    """Return all that can be told of a settings class, each name once, in the order in which the fields are written
    down.
    """
    found: dict[str, Leaf] = {}
    for leaf in _walked(kind, ()):
        found.setdefault(leaf.name, leaf)
    return tuple(found.values())


def places(kind: type) -> dict[tuple[str, ...], str]:
    """Return, by the path of each field that can be told, the name under which it is."""
    return {leaf.path: leaf.name for leaf in _walked(kind, ())}


def changed(settings: Settings, told: Mapping[str, Any], whose: str) -> Settings:
    """Return settings with what was told, by flat names, in place of their own; `whose` they are is for errors.

    A field that holds settings or None, whose class says what `nothing` is, becomes None where all is told to be that.
    Raises: SettingsError for a name that these settings do not have, and for values that do not fit.
    """
    known = told_of(settings).keys()
    if unknown := sorted(told.keys() - known):
        raise SettingsError(
            f"{whose} has no setting {', '.join(unknown)[:200]}; its settings are: {', '.join(sorted(known))}."
        )
    return _changed(settings, told)


def told_of(settings: object) -> dict[str, Any]:
    """Return what some settings say of each of their options, by name; of alternatives, of the one that is there."""
    found: dict[str, Any] = {}
    for one in settable(type(settings)):
        hint, option = hints(type(settings))[one.name], _option(type(settings), one.name)
        value = getattr(settings, one.name)
        if option is not None:
            found[option.name or one.name] = value
        elif _is_settings(value):
            found |= told_of(value)
        elif (absent := _that_may_be_nothing(hint)) is not None:
            found |= {leaf.name: absent.nothing.get(leaf.path[0]) for leaf in options(absent)}
    return found


def _changed(settings: Any, told: Mapping[str, Any]) -> Any:
    kind = cast("type[Any]", type(settings))
    new: dict[str, Any] = {}
    for one in settable(kind):
        option, value = _option(kind, one.name), getattr(settings, one.name)
        if option is not None:
            name = option.name or one.name
            if name in told:
                new[one.name] = convert(name, hints(kind)[one.name], told[name])
            continue
        absent = _that_may_be_nothing(hints(kind)[one.name])
        if absent is not None:
            new[one.name] = _or_nothing(absent, value, told)
        elif _is_settings(value):
            new[one.name] = _changed(value, told)
    return dataclasses.replace(settings, **new)


def _that_may_be_nothing(hint: Any) -> Any:
    """The settings class of a type that says what `nothing` is; None for another type."""
    return next((kind for kind in _settings_kinds(hint) if hasattr(kind, "nothing")), None)


def _or_nothing(kind: Any, value: Any, told: Mapping[str, Any]) -> Any:
    """Settings that may be absent, changed in what was told; None where they say what stands for nothing."""
    nothing: Mapping[str, Any] = kind.nothing
    own = dict(nothing) if value is None else {name: getattr(value, name) for name in nothing}
    inner = {
        leaf.path[0]: convert(leaf.name, leaf.hint, told[leaf.name])
        for leaf in options(kind)
        if leaf.name in told
    }
    if all({**own, **inner}.get(name) == absent for name, absent in nothing.items()):
        return None
    return kind(**{**own, **inner}) if value is None else dataclasses.replace(value, **inner)


def _walked(kind: type, path: tuple[str, ...]) -> Iterator[Leaf]:
    docs = field_docs(kind)
    for one in settable(kind):
        option = _option(kind, one.name)
        if option is None:
            for inner in _settings_kinds(hints(kind)[one.name]):
                yield from _walked(inner, (*path, one.name))
            continue
        hint, added = split(hints(kind)[one.name])
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        yield Leaf(option.name or one.name, (*path, one.name), hint, default, docs.get(one.name, ""), added)


def _option(kind: type, field: str) -> Option | None:
    return next((one for one in split(hints(kind)[field])[1] if isinstance(one, Option)), None)


def _settings_kinds(hint: Any) -> tuple[type, ...]:
    return tuple(
        member for member in members(split(hint)[0]) if isinstance(member, type) and _is_settings(member)
    )


def _is_settings(value: object) -> bool:
    """Whether it is a dataclass, or of one, with a field that can be told or that leads to one."""
    kind = value if isinstance(value, type) else type(value)
    return dataclasses.is_dataclass(kind) and any(True for _ in _walked(kind, ()))
