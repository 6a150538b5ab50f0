"""Every error a user can meet: one sentence each that says what came, what was wanted, and what to do.

    EvenreelError
    ├── SettingsError    a setting, prompt or option out of range (exit status 2)
    ├── ClipError        a video or image folder that cannot be read as asked
    ├── OutputError      a result that cannot be written
    ├── WeightsError     model weights that are absent, damaged or unsafe to load
    ├── DataError        training data that are absent, damaged or unsafe to read
    ├── ResourceError    a machine without the memory for what was asked
    └── PluginError      a host, backbone, control or metric that is unknown or fails to load

Command-line exit statuses follow from the class: 2 for wrong usage, 1 for everything else, 130 when interrupted.

An error carries the names of the arguments that it speaks of: Python reads "steps must be ...", the command line, which
spells them its own way, "--steps must be ...".
"""

import re
from collections.abc import Callable

_START, _END = "\ufdd0", "\ufdd1"  # characters that no text has
_ARGUMENT = re.compile(f"{_START}(.*?){_END}")
_LONG_WORD = re.compile(r"(\S{200})\S{300,}(\S{100})")
LONGEST = 1800
"""Letters of an error's text: a value of thousands, which a damaged file may hold, is cut in the middle."""


def argument(name: str) -> str:
    """Mark the name of an argument in the text of an error, so that whoever shows the error can spell it.

    raise SettingsError(f"{argument('steps')} must be at least 1, got {steps}.")
    """
    return f"{_START}{name}{_END}"


class EvenreelError(Exception):
    """Base of all errors raised on purpose; its text is meant for the user."""

    exit_status = 1

    def __str__(self) -> str:
        return self.spelled(str)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that the text speaks of."""
        return tuple(_ARGUMENT.findall(super().__str__()))

    def spelled(self, spell: Callable[[str], str]) -> str:
        """Return the text with every argument's name as `spell` writes it."""
        text = _ARGUMENT.sub(lambda found: spell(found[1]), super().__str__())
        text = _LONG_WORD.sub(r"\1...\2", text)
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 3 :]}"


class SettingsError(EvenreelError, ValueError):
    """A setting, prompt or option is out of range."""

    exit_status = 2


class ClipError(EvenreelError):
    """A video or image folder cannot be read as asked."""


class OutputError(EvenreelError):
    """A result cannot be written."""


class WeightsError(EvenreelError):
    """Model weights are absent, damaged or unsafe to load."""


class DataError(EvenreelError):
    """Training data are absent, damaged or unsafe to read."""


class ResourceError(EvenreelError):
    """The machine lacks the memory for what was asked, or a cluster is gone."""


class PluginError(EvenreelError, LookupError):
    """A host, backbone, control or metric is unknown or fails to load."""

    exit_status = 2
