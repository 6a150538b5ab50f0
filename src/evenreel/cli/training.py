"""What the commands of `evenreel train` have in common."""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.errors import WeightsError
from evenreel.progress import Progress


def is_first() -> bool:
    """Tell whether this is the first of the processes of a training, the one that says something."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def training_shown(quiet: bool) -> Generator[Progress]:
    """Show the progress of a training, on one of its processes; a loss that is not finite ends it with WeightsError."""
    with shown_progress(quiet or not is_first()) as progress:
        try:
            yield progress
        except FloatingPointError as error:
            raise WeightsError(str(error)) from error


def print_levels(columns: Sequence[str], rows: Iterable[tuple[float, ...]]) -> None:
    """Print errors of noise predictions as a table: a row for each noise level, which stands first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("noise level", *columns):
        table.add_column(column, justify="right")
    for level, *errors in rows:
        table.add_row(f"{level:g}", *(f"{error:.4f}" for error in errors))
    stdout().print(table)
