"""What documents quote of the recorded study is what its lines say."""

import re
from pathlib import Path

import pytest

from evenreel.study import item_log
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.report.markdown import markdown
from evenreel.study.run import runner
from evenreel.study.study_record import read_record, settings_of

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
    counts = [int(row.split("|")[2]) for row in table.splitlines()[2:]]
    assert any(counts), (
        "no item of the record belongs to this experiment as it is now: run it again, quote it anew"
    )
    assert quoted.strip() == table


def test_the_page_says_how_much_is_recorded():
    record = read_record(STUDY)
    settings, known = settings_of(record), item_log.read(STUDY / "items.jsonl")
    planned = runner.plan(settings, experiments(settings), record["fingerprints"])
    done = sum("figures" in known.get(one.key, {}) for one in planned)
    page = (DOCS / "study.md").read_text(encoding="utf-8")
    assert f"{done} items of the {len(planned)} that its settings plan" in page


def test_documents_quote_the_study():
    assert {quote.values[0] for quote in quotes()} >= {"table1", "trainings", "tokens", "windows"}
