"""`evenreel theory` as a person meets it."""

import json
import re

import pytest

from evenreel.cli import main
from evenreel.theory.statements import STATEMENTS


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")

    def start(*arguments: str) -> str:
        assert main(["theory", *arguments]) == 0
        return capsys.readouterr().out

    return start


def test_the_table(run):
    shown = run()
    for statement in STATEMENTS:
        assert statement.id in shown
    assert "false as stated" in shown
    assert "100 > 2" in shown


def test_one_at_length(run):
    shown = run("4.10")
    assert shown.startswith("C.10 = 4.10: The attention error is bounded")
    for words in (
        "As printed",
        "Counterexample",
        "0.7616 > 0",
        "What is true",
        "sqrt(M) |W_V| |dZ|_F",
        "Why",
    ):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_json(run):
    rows = json.loads(run("C.2", "--json"))
    assert rows["measured"] == []
    (row,) = rows["statements"]
    assert row["ids"] == ["C.2", "4.2"]
    assert row["counterexample"][0]["value"] == pytest.approx(100)
    assert not row["counterexample"][0]["holds"]


def test_a_wrong_number_is_one_sentence(capsys):
    assert main(["theory", "C.99"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("evenreel: there is no statement 'C.99'; there are: C.1,")
    assert error.count("\n") == 1


def test_two_formats_are_one_too_many(capsys):
    assert main(["theory", "--json", "--markdown"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_measured_on_a_model(run, monkeypatch, tiny_folder):
    """Little of it, for the time that it takes."""
    from evenreel.workflows.theory import run as theory_run

    measured = theory_run.measure_theory
    monkeypatch.setattr(
        theory_run,
        "measure_theory",
        lambda backbone, **options: measured(backbone, frames=2, steps=1, **options),
    )
    model = ("--measure", "--model", str(tiny_folder), "--device", "cpu", "--quiet")
    shown = run("4.15", *model)
    assert "share of a random U* out of reach" in shown
    rank, tokens, width = map(int, re.search(r"rank (\d+) of (\d+) tokens, width (\d+)", shown).groups())
    assert 0 < rank <= min(tokens, width)  # how far below follows from the model, and from rounding
    assert "2-norm of W" not in shown
