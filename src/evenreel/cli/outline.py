"""The program at a glance: its commands, a line for each, and the module that each lies in.

A module is imported when one of its commands is wanted: who runs one, or reads the list, does not wait for the others,
whose options are many.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

OUTLINE: Mapping[str, Mapping[str, str]] = {
    "edit": {
        "edit": "Edit CLIP with text.",
        "mask": "Write what `evenreel edit` with the same options would change of CLIP as a mask, white on black.",
        "repeat": "Run an edit again from its record, or make a clip from text again.",
    },
    "generate": {
        "generate": "Make a clip from text alone, or from text and what a ControlNet is shown.",
    },
    "batch": {"batch": "Edit many clips, as a table says."},
    "jobs": {
        "jobs": "Show jobs (what is kept of each edit while it is made), and go on with those that were stopped.",
    },
    "web": {"web": "Serve a page on which clips are edited in a browser."},
    "demo": {
        "demo": "See an edit happen: render a clip with sound, edit it with a prompt, and measure it against the exact "
        "answer.",
    },
    "evaluate": {
        "evaluate": "Measure EDIT against SOURCE: what was kept, what was asked for, what is steady.",
        "metrics": "List the metrics with their definitions, and whether they can be computed here.",
    },
    "inspect": {
        "info": "Show what CLIP says about itself (size as displayed, frame rate, duration, tracks) and what edits "
        "carry over.",
        "hosts": "List the hosts (the algorithms that keep frames consistent), or the settings of one.",
        "inversions": "List the inversions (the ways from a clip to the noise that an edit starts from), or the "
        "settings of one.",
        "doctor": "Check what is installed, which device will be used, and what is missing and how to get it.",
    },
    "adapter": {"adapter": "Say what files of weights are; exchange adapters with other tools."},
    "train": {"train": "Train a model or an adapter."},
    "data": {"data": "Build and check data to train on."},
    "study": {"study": "Run the papers' experiments on a model and report on them."},
    "theory": {
        "theory": "Show what the papers behind evenreel claim, what of it holds, and what is true instead.",
    },
}
"""By module of this package, its commands and groups of commands, and the first line of the help of each."""
LINES = {name: line for commands in OUTLINE.values() for name, line in commands.items()}
HELP_FLAGS = ["-h", "--help"]
_HOMES = {name: module for module, commands in OUTLINE.items() for name in commands}


def _show_flags_alone(command: Any) -> None:
    """Leave out the type of options that take no value, which help pages would show like a value to be given."""
    context = typer.Context(command, help_option_names=HELP_FLAGS)
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _show_flags_alone(inner)


class _Loaded(Mapping[str, Any]):
    """The commands by name, made when they are asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            part = typer.Typer(rich_markup_mode="rich")
            import_module(f"evenreel.cli.{_HOMES[name]}").register(part)
            made = typer.main.get_group(part).commands
            for command in made.values():
                _show_flags_alone(command)
            self._made.update(made)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(LINES)

    def __len__(self) -> int:
        return len(LINES)


class Commands(TyperGroup):
    """The commands of the outline as one group."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Loaded()  # pyright: ignore[reportAttributeAccessIssue] - nothing is added to it

    @contextmanager
    def _as_lines(self) -> Generator[None]:
        """For a list of the commands, their lines are enough."""
        loaded, self.commands = (
            self.commands,
            {name: TyperCommand(name, help=line) for name, line in LINES.items()},
        )
        try:
            yield
        finally:
            self.commands = loaded

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of the whole program."""
        with self._as_lines():
            _show_flags_alone(self)
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the names of commands that begin so."""
        with self._as_lines():
            return super().shell_complete(ctx, incomplete)
