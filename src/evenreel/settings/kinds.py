"""What a setting may hold beyond its Python type, and how the command line shows it: written beside the field's type.

steps: Annotated[int, Range(1, 1000), Option("Algorithm")] = 25
\"""Denoising steps.\"""
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, cast, runtime_checkable

from evenreel.errors import SettingsError, argument
from evenreel.files import expanded

OptionValue = bool | int | float | str | None
"""What one option of a host or an inversion may hold."""

LARGEST_SIDE = 8192
LONGEST_PATH, LONGEST_NAME = 4000, 255
"""Bytes that systems take."""
MOST = sys.float_info.max


@runtime_checkable
class Rule(Protocol):
    """What is asked of a value of the right type; stands in `Annotated`."""

    def check(self, name: str, value: Any) -> None:
        """Raise SettingsError, which calls the setting `name`, unless the value will do."""
        ...


def each(value: Any) -> tuple[Any, ...]:
    """Return the members of a tuple or list; a value that is neither, alone."""
    return tuple(cast("tuple[Any, ...]", value)) if isinstance(value, tuple | list) else (value,)


@dataclass(frozen=True)
class Range:
    """Finite numbers from `smallest` to `largest`; of a pair of numbers, both."""

    smallest: int | float
    largest: int | float | None = None
    """None where there is no end."""
    above: bool = False
    """Whether the smallest itself is too small."""
    below: bool = False
    """Whether the largest itself is too large."""

    def check(self, name: str, value: Any) -> None:
        """Raise SettingsError for a number outside."""
        for number in each(value):
            # comparisons refuse NaN and infinity too, and integers of any length
            inside = self.smallest <= number <= (MOST if self.largest is None else self.largest)
            if (
                not inside
                or (self.above and number == self.smallest)
                or (self.below and number == self.largest)
            ):
                raise SettingsError(f"{argument(name)} must be {self.in_words}, got {number}.")

    @property
    def in_words(self) -> str:
        """The range, for errors."""
        low, high = _shown(self.smallest), _shown(self.largest)
        if self.largest is None:
            return f"above {low}" if self.above else f"at least {low}"
        if self.above:
            return f"above {low} and {'below' if self.below else 'at most'} {high}"
        return f"from {low} to {'less than ' if self.below else ''}{high}"


def _shown(number: int | float | None) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


@dataclass(frozen=True)
class NotEmpty:
    """Text that says something."""

    advice: str = "name one, or leave it out for the default"

    def check(self, name: str, value: Any) -> None:
        """Raise SettingsError for text that is empty or blank."""
        if not value.strip():
            raise SettingsError(f"{argument(name)} is empty; {self.advice}.")


@dataclass(frozen=True)
class Place:
    """Text that may name a file or folder; records keep it so that it is found from anywhere."""

    or_packaged: bool = False
    """Whether names of what is packaged or registered come before files of the same name."""

    def check(self, name: str, value: Any) -> None:
        """Raise SettingsError for names that are longer than those of any file."""
        for told in each(value):
            parts = [len(part.encode("utf-8", "surrogatepass")) for part in Path(told).parts]
            if sum(parts) > LONGEST_PATH or max(parts, default=0) > LONGEST_NAME:
                raise SettingsError(
                    f"{argument(name)} {told[:40]!r}... is too long a name; give a shorter one."
                )


@dataclass(frozen=True)
class Formerly:
    """Values that older records write, and what they are called now."""

    names: Mapping[str, str]


@dataclass(frozen=True)
class Before:
    """What a setting that is newer than a record is repeated with: what was done before there was the setting."""

    value: Any


@dataclass(frozen=True)
class Option:
    """How the command line shows a setting. What it does not say follows from the field: its name, type and default."""

    panel: str | None = None
    """Group of options on the help page."""
    metavar: str | None = None
    """What stands for the value on the help page."""
    default: str | None = None
    """What the help page shows as default where the field's own, often None, says nothing to people."""
    flags: tuple[str, ...] = ()
    """Names on the command line, where they do not follow from the field's."""
    parse: Callable[[str, Any], Any] | None = None
    """(name, text, or list of texts) -> value, for types that are not one word on a command line."""
    name: str | None = None
    """What the setting is called where settings are written flat, if not as the field (`settings.changes`)."""


def refuse(name: str, wanted: str, value: object) -> NoReturn:
    """Raise the SettingsError for a value of another kind than wanted."""
    shown = repr(value[:40]) if isinstance(value, str) else repr(value)[:60]
    raise SettingsError(f"{argument(name)} must be {wanted}, got {shown}.")


def check_range(name: str, value: int | float, smallest: int | float, largest: int | float) -> None:
    """Raise SettingsError unless a number is from `smallest` to `largest`."""
    Range(smallest, largest).check(name, value)


def check_text(name: str, text: str) -> None:
    """Raise SettingsError for characters that no text has."""
    # Control characters and lone surrogates come from broken quoting or hostile files, and tokenizers choke on them.
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            raise SettingsError(
                f"{argument(name)} contains the character U+{ord(character):04X}, which no text has; "
                "type it again without it."
            )


def split_file(told: str) -> tuple[str, str | None]:
    """Return the file of `FILE` or `FILE:MORE`, and what stands behind it; a file whose own name holds a colon is
    whole."""
    head, colon, tail = told.rpartition(":")
    if not colon or not head or expanded(told).exists() or "/" in tail or "\\" in tail:
        return told, None
    return head, tail


def parse_files(name: str, told: list[str]) -> tuple[str, ...]:
    """Read files, each perhaps with more behind a colon, in the order in which they were named."""
    del name
    return tuple(told)


def parse_frames(name: str, text: str) -> tuple[int, int | None]:
    """Read `START:END`, either of which may be left out."""
    match = re.fullmatch(r"\s*(\d{0,12})\s*:\s*(\d{0,12})\s*", text, flags=re.ASCII)
    if match is None:
        refuse(name, "START:END, for example 0:16 or 8:", text)
    start, end = match.groups()
    return int(start or 0), int(end) if end else None


def cut_frames(told: str) -> tuple[int, ...] | None:
    """Return numbers of frames at which scenes begin; None where they are to be found. Raises: SettingsError."""
    if told in ("auto", "none"):
        return None if told == "auto" else ()
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", told, flags=re.ASCII):
        refuse("cuts", "auto, none, or numbers of frames, for example 0,48,120", told)
    numbers = tuple(map(int, told.split(",")))
    if list(numbers) != sorted(set(numbers)):
        refuse("cuts", "numbers of frames in order, each once", told)
    return numbers


def parse_interval(name: str, text: str) -> tuple[float, float]:
    """Read `START:END`, two shares from 0 to 1."""
    start, _, end = text.partition(":")
    try:
        return float(start), float(end)
    except ValueError:
        refuse(name, "START:END, for example 0.3:1", text)


def parse_size(name: str, text: str) -> int | tuple[int, int]:
    """Read a size in pixels, `SIDE` or `WIDTHxHEIGHT`."""
    match = re.fullmatch(r"\s*(\d{1,6})(?:\s*[x*X]\s*(\d{1,6}))?\s*", text, flags=re.ASCII)
    if match is None:
        refuse(name, "SIDE or WIDTHxHEIGHT, for example 512 or 768x512", text)
    first, second = match.groups()
    return int(first) if second is None else (int(first), int(second))


def parse_options(name: str, pairs: list[str]) -> dict[str, OptionValue]:
    """Read `KEY=VALUE` pairs; a value is read as true or false, none, a number, or else text."""
    options: dict[str, OptionValue] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            refuse(name, "KEY=VALUE", pair)
        options[key.strip()] = plain_value(value.strip())
    return options


def plain_value(text: str) -> OptionValue:
    """Return the value that a text stands for."""
    named: dict[str, OptionValue] = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


Size = Annotated[int | tuple[int, int] | None, Range(8, LARGEST_SIDE)]
"""The shorter side, or (width, height)."""
