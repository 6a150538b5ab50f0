"""What documents quote of the recorded study is what its lines say."""

import re
from pathlib import Path

import pytest

from evenreel.study.report.markdown import markdown

DOCS = Path(__file__).parents[3] / "docs"
STUDY = DOCS / "study"
QUOTED = re.compile(r"<!-- evenreel study table (\S+) --figures (\S+) -->\n\n((?:\|.*\n)+)")
"""A table, under the command that printed it."""


def quotes():
    return [
        pytest.param(*found, id=f"{page.stem} {found[0]}")
        for page in sorted(DOCS.glob("*.md"))
        for found in QUOTED.findall(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("name", "figures", "quoted"), quotes())
def test_a_quoted_table_is_that_of_the_lines(name, figures, quoted):
    table = markdown(STUDY, name, figures.split(","))
    if all(row.split("|")[2].strip() == "0" for row in table.splitlines()[2:]):
        pytest.skip("the recorded study is one of other defaults or weights: run it again and quote it anew")
    assert quoted.strip() == table


def test_documents_quote_the_study():
    assert {quote.values[0] for quote in quotes()} >= {"table1", "trainings", "tokens", "windows"}
