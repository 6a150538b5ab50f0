"""Blind comparisons by people: which pairs are shown, in which order and on which side, and what was answered."""

import random
import sqlite3
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evenreel.errors import OutputError, SettingsError, argument
from evenreel.metrics.statistics import Estimate, cluster_bootstrap
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.run.runner import items_of
from evenreel.study.settings import StudySettings

QUESTIONS = {
    "coherence": "Which clip is more coherent from frame to frame?",
    "text": "Which clip fits the text better?",
    "quality": "Which clip looks better?",
}
"""The paper's three (GE, section 4.3)."""
CHOICES = ("left", "same", "right")
PAIRS = 20
"""That one rater sees of each pair of conditions, at most (the paper's number)."""


@dataclass(frozen=True)
class Pair:
    """Two clips of one source and one prompt, as one rater sees them."""

    name: str
    """The same for every rater: experiment, conditions, clip and seed."""
    left: str
    right: str
    """Conditions."""
    left_picture: str
    right_picture: str
    """Names of the files with their frames."""
    prompt: str


def pairs(
    settings: StudySettings,
    known: Mapping[str, Mapping],
    prints: Mapping[str, str],
    rater: str,
    only: str | None = None,
) -> list[Pair]:
    """Return all pairs of which both clips were kept, in an order and with sides that follow from the rater's name.

    Clips that several experiments compare are shown once, in the first of them. `only` names one experiment.
    Raises: SettingsError where there are no pairs.
    """
    rng = random.Random(f"evenreel rater {rater}")
    found: list[Pair] = []
    seen: set[frozenset[str]] = set()
    chosen = [experiment for experiment in experiments(settings) if only in (None, experiment.name)]
    for experiment in chosen:
        conditions = {condition.name: condition for condition in experiment.conditions}
        for one, other in experiment.pairs:
            shown = []
            for ours, theirs in zip(
                items_of(settings, experiment, conditions[one]),
                items_of(settings, experiment, conditions[other]),
                strict=True,
            ):
                lines_of = known.get(ours.key(prints), {}), known.get(theirs.key(prints), {})
                clips = frozenset(line["picture"] for line in lines_of if "picture" in line)
                if len(clips) == 2 and clips not in seen:
                    seen.add(clips)
                    name = f"{experiment.name}: {one} | {other}, clip {ours.clip}, seed {ours.seed}"
                    shown.append((name, (one, lines_of[0]), (other, lines_of[1])))
            rng.shuffle(shown)
            first = rng.random() < 0.5
            for number, (name, *sides) in enumerate(shown[:PAIRS]):
                # half of the pairs have each condition on the left: ten and ten of twenty
                (left, a), (right, b) = sides if first == bool(number % 2) else sides[::-1]
                found.append(Pair(name, left, right, a["picture"], b["picture"], a.get("prompt", "")))
    if not found:
        where = f" in {only[:40]!r}" if only else ""
        raise SettingsError(
            f"the study has no pairs of clips to compare{where}; run it with experiments that compare some."
        )
    rng.shuffle(found)
    return found


class Ratings:
    """Answers in an SQLite file; each is on disk before the next pair is shown."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises: OutputError where it cannot be, or is something else."""
        self.path = path
        with self._connected() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers ("
                " rater TEXT NOT NULL, pair TEXT NOT NULL, question TEXT NOT NULL,"
                " choice TEXT NOT NULL CHECK (choice IN ('left', 'same', 'right')),"
                " left TEXT NOT NULL, right TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL,"
                " PRIMARY KEY (rater, pair, question))"
            )

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=10)
            try:
                with database:  # commits, or rolls back
                    yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path} cannot be used for ratings ({error}); name another {argument('output')}."
            ) from error

    def add(self, rater: str, pair: Pair, answers: Mapping[str, str], seconds: float) -> None:
        """Keep the answers to one pair; answered again, the last ones count.

        Raises: SettingsError unless every question has one of the choices.
        """
        if answers.keys() != QUESTIONS.keys() or not set(answers.values()) <= set(CHOICES):
            raise SettingsError(
                f"each of {', '.join(QUESTIONS)} must be answered by one of {', '.join(CHOICES)}."
            )
        with self._connected() as database:
            database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (rater, pair.name, question, choice, pair.left, pair.right, seconds, time.time())
                    for question, choice in answers.items()
                ],
            )

    def merge(self, other: Path) -> int:
        """Take in the answers of another file, and return how many there were; to a pair that the same rater has
        answered in both, the later ones count.

        Raises: OutputError for a file that is absent or holds no ratings.
        """
        if not other.is_file():
            raise OutputError(
                f"{other}: there is no such file of ratings; name one that `evenreel study rate` made."
            )
        rows = Ratings(other).rows()
        self.take(rows)
        return len(rows)

    def take(self, rows: Sequence[tuple]) -> None:
        """Take in answers as a file holds them; to a pair that the same rater has answered before, later ones count."""
        with self._connected() as database:
            database.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET choice = excluded.choice,"
                " left = excluded.left, right = excluded.right, seconds = excluded.seconds, at = excluded.at"
                " WHERE excluded.at > answers.at",
                rows,
            )

    def rows(self) -> list[tuple]:
        """Return all answers, as the file holds them."""
        with self._connected() as database:
            return database.execute("SELECT * FROM answers").fetchall()

    def answered(self, rater: str) -> set[str]:
        """Return names of the pairs that a rater is done with."""
        with self._connected() as database:
            return {
                name
                for (name,) in database.execute("SELECT DISTINCT pair FROM answers WHERE rater = ?", (rater,))
            }

    def raters(self) -> int:
        """Return how many people have answered."""
        with self._connected() as database:
            return database.execute("SELECT COUNT(DISTINCT rater) FROM answers").fetchone()[0]

    def preferences(self, compared: Sequence[tuple[str, str]]) -> list[tuple[str, str, str, Estimate]]:
        """Return (condition, other, question, share that prefers the condition) with intervals over raters.

        "Same" counts one half for each. Only comparisons that someone has made are listed.
        """
        with self._connected() as database:
            rows = database.execute("SELECT rater, question, choice, left, right FROM answers").fetchall()
        found = []
        for one, other in compared:
            for question in QUESTIONS:
                values, raters = [], []
                for rater, asked, choice, left, right in rows:
                    if asked == question and {left, right} == {one, other}:
                        preferred = {"left": left, "right": right}.get(choice)
                        values.append(0.5 if preferred is None else float(preferred == one))
                        raters.append(rater)
                if values:
                    found.append((one, other, question, cluster_bootstrap(values, raters)))
        return found
