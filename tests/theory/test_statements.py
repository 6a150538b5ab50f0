"""Every statement of both papers is there, its counterexample breaks it, and its corrected form keeps its bound."""

import json
from pathlib import Path

import pytest

from evenreel.errors import SettingsError
from evenreel.theory.chapter import chapter, compared, figure
from evenreel.theory.measured import Measured
from evenreel.theory.statements import STATEMENTS, find
from evenreel.workflows.theory.run import theory_rows

MANUAL = Path(__file__).parents[2] / "docs" / "theory.md"


@pytest.mark.parametrize("letter", ["C", "4"])
def test_every_number_is_there_once(letter):
    numbers = [one for statement in STATEMENTS for one in statement.ids if one.startswith(letter)]
    assert sorted(numbers) == sorted(f"{letter}.{number}" for number in range(1, 16))


def test_both_papers_number_alike():
    for statement in STATEMENTS:
        there = {one.split(".")[1] for one in statement.ids if one.startswith("4.")}
        assert there == {one.split(".")[1] for one in statement.ids if one.startswith("C.")}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.id)
def test_the_counterexample_breaks_what_is_printed(statement):
    if statement.counterexample is None:
        assert statement.status == "holds"
        return
    assert statement.fault
    for measured in statement.counterexample():
        assert not measured.holds, measured
        assert measured.value - measured.bound > 1e-4, measured  # not by rounding


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.id)
def test_the_corrected_form_holds(statement):
    checks = statement.check()
    assert checks
    for measured in checks:
        assert measured.holds, measured


@pytest.mark.parametrize(
    ("number", "index", "value", "bound"),
    [
        ("C.2", 0, 100, 2),
        ("C.3", 0, 48_990, 1_600),
        ("C.4", 0, 1.999, 0.066),
        ("C.4", 1, 2, 0),
        ("C.7", 0, 1.597, 1),
        ("C.10", 0, 0.762, 0),
        ("C.13", 0, 2, 1),
        ("C.14", 0, 1.732, 0.00245),
        ("C.15", 0, 4.69, 0),
    ],
)
def test_the_counterexamples_have_the_numbers_of_the_design_document(number, index, value, bound):
    found = find(number).counterexample()[index]
    assert found.value == pytest.approx(value, rel=1e-3)
    assert found.bound == pytest.approx(bound, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("number", ["C.7", "4.7", " c.7 "])
def test_statements_are_found_by_either_number(number):
    assert find(number).id == "C.7"


def test_an_unknown_number_lists_the_known_ones():
    with pytest.raises(SettingsError, match=r"'C.16'; there are: C.1, 4.1, .*R.2\.$"):
        find("C.16")


def test_rows_are_plain():
    rows = json.loads(json.dumps(theory_rows()))
    assert len(rows) == len(STATEMENTS)
    for row in rows:
        assert row["check"]
        assert all(one["holds"] for one in row["check"])
        assert not any(one["holds"] for one in row["counterexample"])


def test_nan_keeps_no_bound():
    assert not Measured(what="", value=float("nan"), bound=1.0).holds
    assert not Measured(what="", value=1.0, bound=float("nan")).holds


def test_figures():
    assert figure(3e-16) == "0"
    assert compared(Measured(what="", value=12345.678, bound=1.0)) == "1.235e+04 > 1"


def test_the_manual_is_up_to_date():
    """Made by `evenreel theory --markdown`."""
    assert chapter(STATEMENTS) in MANUAL.read_text(encoding="utf-8")
