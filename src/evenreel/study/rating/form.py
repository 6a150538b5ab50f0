"""A rater's pairs as one file that any browser opens, without evenreel and without a network."""

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from evenreel.errors import SettingsError, argument
from evenreel.files import shown, write_atomically
from evenreel.study import item_log
from evenreel.study.rating.answers import read_answers
from evenreel.study.rating.ratings import CHOICES, QUESTIONS, Pair, Ratings, pairs
from evenreel.study.study_record import read_record, settings_of


def write_form(folder: Path, target: Path, rater: str, experiment: str | None = None) -> int:
    """Write a page with all pairs of a rater, pictures included, and return how many there are.

    What is answered stays in the browser until it is saved as a file, which `take_answers` reads. The page does not say
    what the clips are. Raises: SettingsError where there is nothing to compare, OutputError.
    """
    record = read_record(folder)
    settings, found = settings_of(record), _pairs(folder, rater, experiment)

    def data(name: str) -> str:
        try:
            picture = (folder / "frames" / name).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{folder / 'frames' / name}: the picture is gone; run the study again."
            ) from error
        return "data:image/jpeg;base64," + base64.b64encode(picture).decode()

    listed = [
        {
            "name": _called(pair),
            "prompt": pair.prompt,
            "left_data": data(pair.left_picture),
            "right_data": data(pair.right_picture),
        }
        for pair in found
    ]
    text = resources.files("evenreel.study.rating").joinpath("form.html.j2").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    study = hashlib.sha256(json.dumps(record["fingerprints"], sort_keys=True).encode()).hexdigest()[:12]
    written = page.render(
        pairs=_script(listed),
        rater=_script(rater),
        experiment=_script(experiment),
        study=_script(study),
        frames=settings.frames,
        questions=QUESTIONS,
        choices=CHOICES,
    )
    write_atomically(target, written)
    return len(found)


def take_answers(folder: Path, path: Path, ratings: Ratings) -> int:
    """Take what a page saved into the ratings of the study that it was written from; return how many answers.

    Raises: SettingsError for another file, or one of another study.
    """
    told = read_answers(path)
    known = {_called(pair): pair for pair in _pairs(folder, told.rater, told.experiment)}
    if any(one.pair not in known for one in told.answers):
        raise SettingsError(
            f"{shown(path)} answers pairs that this study does not have; name the study from which its page was "
            f"written with {argument('out')}."
        )
    rows = [
        (
            *(told.rater, known[one.pair].name, question, getattr(one.answers, question)),
            *(known[one.pair].left, known[one.pair].right, one.seconds, one.at),
        )
        for one in told.answers
        for question in QUESTIONS
    ]
    ratings.take(rows)
    return len(rows)


def _pairs(folder: Path, rater: str, experiment: str | None) -> list[Pair]:
    record = read_record(folder)
    known = item_log.read(folder / "items.jsonl")
    return pairs(settings_of(record), known, record["fingerprints"], rater, experiment)


def _called(pair: Pair) -> str:
    """What a page calls a pair: the pictures' places are in it, and what they show is not told."""
    content = "\n".join((pair.name, pair.left, pair.left_picture, pair.right_picture))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _script(value: object) -> Markup:
    """A value as JSON that no HTML ends."""
    text = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(text)  # noqa: S704  (nothing in it is HTML any more)
