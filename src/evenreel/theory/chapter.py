"""Statements in words: for the terminal, and as a chapter in Markdown."""

import inspect
from collections.abc import Iterator, Sequence

from evenreel.theory.measured import Measured
from evenreel.theory.statement import PAPERS, Statement


def figure(value: float) -> str:
    """Write four digits; rounding noise is 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.4g}"


def compared(measured: Measured) -> str:
    """Write value <= bound, or value > bound."""
    sign = "<=" if measured.holds else ">"
    return f"{figure(measured.value)} {sign} {figure(measured.bound)}"


def paragraphs(statement: Statement) -> Iterator[tuple[str, str]]:
    """Return (heading, text) of everything that is said of a statement; its counterexample and check are run."""
    yield "As printed", f"{statement.claim} Hypotheses: {statement.hypotheses}."
    if statement.fault:
        yield "Fault", statement.fault
    if statement.counterexample is not None:
        case = " ".join((inspect.getdoc(statement.counterexample) or "").split())
        yield "Counterexample", "\n".join([case, *_lines(statement.counterexample())])
    yield "What is true", statement.truth
    yield "Conditions", f"{statement.conditions}."
    yield "Why", statement.why
    yield "Sharp?", statement.sharp
    yield "Checked", "\n".join(_lines(statement.check()))
    yield "What follows", statement.meaning
    if statement.design:
        yield "Beside the earlier derivation", statement.design


def heading(statement: Statement) -> str:
    """Return the numbers, the title and the status of a statement, in one line."""
    return f"{' = '.join(statement.ids)}: {statement.title} ({statement.status})"


def chapter(statements: Sequence[Statement]) -> str:
    """Return all statements in Markdown: an overview, then each at length."""
    lines = ["| no. | statement | status | what is true |", "|---|---|---|---|"]
    lines += [
        f"| {', '.join(one.ids)} | {_cell(one.title)} | {one.status} | {_cell(one.gist)} |"
        for one in statements
    ]
    lines += ["", *(f"{paper} is *{title}*." for paper, title in PAPERS.items())]
    for one in statements:
        lines += ["", f"### {heading(one)}"]
        for name, text in paragraphs(one):
            title, rows = name if name.endswith("?") else f"{name}.", text.split("\n")
            lines += ["", f"**{title}** {text}"] if len(rows) == 1 else ["", f"**{title}**", ""]
            lines += [f"- {row}" for row in rows if len(rows) > 1]
    return "\n".join(lines) + "\n"


def _lines(measured: Sequence[Measured]) -> list[str]:
    return [f"{one.what}: {compared(one)}" for one in measured]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
