"""The `evenreel` command: how it begins, and how errors leave it."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from evenreel._version import __version__
from evenreel.cli.console import StoppedError, complain, escape_unprintable, show_warnings
from evenreel.cli.outline import HELP_FLAGS, Commands
from evenreel.cli.spelling import spelled
from evenreel.errors import EvenreelError, PluginError, WeightsError
from evenreel.installed import suspect, suspected
from evenreel.registry import plug_in_of

INTERRUPTED = 130
"""Exit status after Ctrl-C or SIGTERM, as shells give it."""

app = typer.Typer(
    name="evenreel",
    cls=Commands,
    help="Edit videos with text, on Stable-Diffusion-type models.",
    epilog="A first try: [bold]evenreel demo[/]   Your own clip: "
    '[bold]evenreel edit in.mp4 --prompt "a blue star rolling over snow" -o out.mp4[/]',
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_FLAGS},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"evenreel {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    del version  # its callback has done the work


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1, 2 (wrong usage) or 130 (interrupted)."""
    escape_unprintable()
    show_warnings()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("EVENREEL_DEBUG", "") not in ("", "0")
    before = _interrupted_by_signals()
    status: object = 0
    stopped = "interrupted; what was finished stands, and nothing partial is left."
    try:
        status = app(given or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except StoppedError as stop:
        status, stopped = INTERRUPTED, str(stop)
    except EvenreelError as error:
        if debug:
            raise
        said = error.spelled(spelled)
        complain(suspected(said) if isinstance(error, WeightsError | PluginError) else said)
        return error.exit_status
    except typer.TyperException as error:
        if error.format_message():  # empty where a group without a command has shown its help instead
            complain(_usage(error))
        return error.exit_code
    except ImportError as error:
        if debug:
            raise
        complain(
            suspected(
                f"a library is missing or broken ({error}); install evenreel again, then try `evenreel doctor`."
            )
        )
        return 1
    except BrokenPipeError:
        # The reader (`| head`) has left; point stdout elsewhere, or Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the last resort: a user must never be shown a traceback
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            complain(f"{error.filename} is too long a name; give a shorter one.")
            return 1
        what = f"unexpected {type(error).__name__}: {error}"
        plug_in = plug_in_of(error)
        whose = "evenreel" if plug_in is None else f"the plug-in {plug_in}"
        to = "" if plug_in is None else " to those who made it"
        blamed = f"this is a fault of {whose}: set EVENREEL_DEBUG=1 to see where it happens, and please report it{to}."
        complain(f"{what}; {blamed}" if suspect() is None else suspected(what))
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status == INTERRUPTED:  # typer too turns Ctrl-C into this status
        complain(stopped)
    return status if isinstance(status, int) else 0


def _interrupted_by_signals() -> dict[int, Any]:
    """Let `kill` and a terminal that closes clean up as Ctrl-C does; returns what they did before.

    What is ignored stays ignored: that is how `nohup` lets a program outlive its terminal.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, _interrupt) for number in taken}


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "evenreel"
    return f"{error.format_message().rstrip('.')}; see `{command} --help`."
