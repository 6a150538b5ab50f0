"""Checks of single settings: what fails is one sentence."""

import unicodedata
from collections.abc import Mapping

from evenreel.errors import SettingsError

OptionValue = bool | int | float | str | None
"""What one option of a host or an inversion may hold."""


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return (
        value is None
        or is_whole(value)
        or (isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value)))
    )


def _is_range(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and is_whole(value[0])
        and (value[1] is None or is_whole(value[1]))
    )


def _is_options(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(option, OptionValue) for name, option in value.items()
    )


KINDS = {
    "text": lambda value: isinstance(value, str),
    "a whole number": is_whole,
    "a whole number or nothing": lambda value: value is None or is_whole(value),
    "a number": lambda value: is_whole(value) or isinstance(value, float),
    "a number or nothing": lambda value: value is None or is_whole(value) or isinstance(value, float),
    "true or false": lambda value: isinstance(value, bool),
    "a whole number or (width, height)": _is_size,
    "(first frame, frame after the last)": _is_range,
    "names with plain values": _is_options,
}
"""What a setting may hold, in words, and how that is told."""


def check_range(name: str, value: int | float, smallest: int | float, largest: int | float) -> None:
    """Raise SettingsError unless a number is from `smallest` to `largest`."""
    # comparisons refuse NaN and infinity too, and integers of any length
    if not smallest <= value <= largest:
        raise SettingsError(f"{name} must be from {smallest} to {largest}, got {value}.")


def check_text(name: str, text: str) -> None:
    """Raise SettingsError for characters that no text has."""
    # Control characters and lone surrogates come from broken quoting or hostile files, and tokenizers choke on them.
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            raise SettingsError(
                f"{name} contains the character U+{ord(character):04X}, which no text has; type it again without it."
            )


def check_named(name: str, value: str) -> None:
    """Raise SettingsError for a name that is empty, or no text."""
    if not value.strip():
        raise SettingsError(f"{name} is empty; name one, or leave it out for the default.")
    check_text(name, value)
