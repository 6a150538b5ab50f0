"""Settings as the words of a command line."""

from collections.abc import Mapping
from typing import Any, cast

from evenreel.settings.fields import leaves
from evenreel.settings.kinds import each


def words(settings: Any) -> list[str]:
    """Return the options that say the same as some settings: those that differ from their defaults."""
    told: list[str] = []
    for leaf in leaves(cast("type[Any]", type(settings))):
        value = leaf.of(settings)
        if value is None or value == leaf.default or (isinstance(value, Mapping) and not value):
            continue
        flag = leaf.option.flags[0] if leaf.option.flags else f"--{leaf.name.replace('_', '-')}"
        if isinstance(value, bool):
            told.append(flag if value else flag.replace("--", "--no-", 1))
            continue
        for one in _each(leaf.name, value, several=leaf.several):
            told += [flag, one]
    return told


def _each(name: str, value: Any, *, several: bool) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}={_plain(one)}" for key, one in cast("Mapping[str, Any]", value).items()]
    if name == "frames":
        return [":".join("" if end is None else str(end) for end in value)]
    if name == "size" and isinstance(value, tuple):
        return ["x".join(map(str, each(value)))]
    if several or isinstance(value, tuple | list):
        return ["" if one is None else _plain(one) for one in each(value)]
    return [_plain(value)]


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
