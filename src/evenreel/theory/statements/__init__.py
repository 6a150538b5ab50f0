"""All statements, in the papers' order."""

from evenreel.errors import SettingsError
from evenreel.theory.statement import Statement
from evenreel.theory.statements import attention, filter, inversion, similarity, tokens  # noqa: A004


def _place(statement: Statement) -> tuple[str, int]:
    letter, number = statement.id.split(".")
    return letter, int(number)


STATEMENTS: tuple[Statement, ...] = tuple(
    sorted(
        (
            *similarity.STATEMENTS,
            *filter.STATEMENTS,
            *inversion.STATEMENTS,
            *attention.STATEMENTS,
            *tokens.STATEMENTS,
        ),
        key=_place,
    )
)
"""Every numbered statement of both papers, and the remarks R.x."""


def find(number: str) -> Statement:
    """Return the statement of a number of either paper, as C.7 or 4.7. Raises: SettingsError when there is none."""
    for statement in STATEMENTS:
        if number.strip().upper() in statement.ids:
            return statement
    known = ", ".join(one for statement in STATEMENTS for one in statement.ids)
    raise SettingsError(f"there is no statement {number!r}; there are: {known}.")
