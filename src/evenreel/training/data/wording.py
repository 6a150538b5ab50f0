"""Other wordings of captions: by rule, by the world's grammar, or by a program of the user's.

The rules are cautious: they exchange words that mean the same, drop "is" before "-ing", move a closing "in the ..." to
the front, and say that this is a video. What a caption states stays true.
"""

import json
import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import cast

from evenreel.errors import DataError, SettingsError, argument
from evenreel.training.data.sources import cleaned
from evenreel.world import Scene, caption

SYNONYMS = {
    "man": ("guy",),
    "men": ("guys",),
    "woman": ("lady",),
    "women": ("ladies",),
    "boy": ("lad",),
    "child": ("kid",),
    "children": ("kids",),
    "car": ("automobile",),
    "cars": ("automobiles",),
    "bike": ("bicycle",),
    "photo": ("picture",),
    "talking": ("speaking",),
    "speaking": ("talking",),
    "jumping": ("leaping",),
    "big": ("large",),
    "large": ("big",),
    "small": ("little",),
    "little": ("small",),
    "quickly": ("fast",),
    "road": ("street",),
    "street": ("road",),
}
"""Words that may stand for one another; "a" before them becomes "an" where it must."""
STATEMENTS = ("{}", "{}", "{}, video", "a video in which {}", "footage where {}")
"""Frames for a sentence with "is" or "are"."""
PHRASES = ("{}", "{}", "{}, video", "a video of {}", "footage of {}", "a clip of {}")
"""Frames for "a man skiing"."""
OTHERS = ("{}", "{}, video", "video: {}")
PLACE = re.compile(
    r"(?P<rest>.+\w) (?P<place>(?:in|on|at|near|under|across|along|beside|behind|inside|outside|through) "
    r"(?:a|an|the|his|her|their|some) \w+(?: \w+)?)"
)
_WORDS = re.compile(rf"\b(?:(an?|the) )?({'|'.join(SYNONYMS)})\b")


def variations(captions: Sequence[str], count: int) -> list[str]:
    """Return at most `count` other wordings of each caption, by rule; the same at every call, none of them given
    already."""
    found: dict[str, None] = {}
    given = set(captions)
    for text in captions:
        rng = random.Random(f"evenreel wording {text}")
        _collect(lambda text=text, rng=rng: reworded(text, rng), count, given, found)
    return list(found)


def world_variations(scene: Scene, captions: Sequence[str], count: int) -> list[str]:
    """Return at most `count` more captions from the world's grammar for each one given."""
    found: dict[str, None] = {}
    rng = random.Random(f"evenreel wording {scene.seed}")
    _collect(lambda: caption(scene, rng), count * len(captions), set(captions), found)
    return list(found)


def _collect(draw: Callable[[], str], count: int, given: set[str], found: dict[str, None]) -> None:
    wanted = len(found) + count
    for _ in range(8 * count):
        if len(found) == wanted:
            return
        text = draw()
        if text not in given:
            found[text] = None


def reworded(text: str, rng: random.Random) -> str:
    """Return one other wording, drawn with `rng`; it may come out as it went in."""
    text = re.sub(r"^(?:A|An|The)\b", lambda match: match[0].lower(), text.rstrip(" ."))
    text = _WORDS.sub(lambda match: _synonym(match, rng) if rng.random() < 0.5 else match[0], text)
    participle, changed = re.subn(r" (?:is|are) (?=\w+ing\b)", " ", text, count=1)
    if changed and rng.random() < 0.5:
        text, frames = participle, PHRASES
    else:
        frames = STATEMENTS if re.search(r"\b(?:is|are)\b", text) else OTHERS
    place = PLACE.fullmatch(text)
    if place is not None and rng.random() < 0.3:
        return f"{place['place']}, {place['rest']}"
    if rng.random() < 0.3:
        text = re.sub(r"^an? (?=\w+ (?:is|are|\w+ing)\b)", "the ", text)
    return rng.choice(frames).format(text)


def _synonym(match: re.Match[str], rng: random.Random) -> str:
    article, word = match[1], rng.choice(SYNONYMS[match[2]])
    if article in ("a", "an"):
        article = "an" if word[0] in "aeiou" else "a"
    return f"{article} {word}" if article else word


def ask(command: str, captions: Sequence[str], count: int) -> dict[str, list[str]]:
    """Ask a program for other wordings: it reads one caption a line, as a JSON string, and answers each with a JSON
    list.

    At most `count` are kept for each caption. The program is started without a shell, with what the user may do.
    Raises SettingsError where it cannot be started, DataError where it fails or answers something else.
    """
    arguments = _words(command)
    lines = "".join(f"{json.dumps(text)}\n" for text in captions)
    try:
        done = subprocess.run(  # noqa: S603  (the user's own program, as words, without a shell)
            arguments, input=lines.encode(), capture_output=True, check=False
        )
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"{argument('captioner')} {command!r} cannot be started ({reason}); give a program."
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DataError(
            f"{argument('captioner')} {command!r} ended with status {done.returncode} "
            f"({said[-1] if said else 'it said nothing'})."
        )
    answers = done.stdout.decode("utf-8", "replace").splitlines()
    if len(answers) != len(captions):
        raise DataError(
            f"{argument('captioner')} {command!r} answered {len(captions)} captions with {len(answers)} lines; "
            "it must write one JSON list a line."
        )
    return {text: _answer(line, command)[:count] for text, line in zip(captions, answers, strict=True)}


def _words(command: str) -> list[str] | str:
    """A command as the system wants it: Windows splits a line itself, and its paths hold what are escapes elsewhere."""
    if os.name == "nt":
        return command
    try:
        return shlex.split(command)
    except ValueError as error:
        raise SettingsError(
            f"{argument('captioner')} {command!r} cannot be split into words ({error})."
        ) from error


def _answer(line: str, command: str) -> list[str]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    texts = cast("list[object]", answer) if isinstance(answer, list) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{argument('captioner')} {command!r} answered {line[:60]!r}; each line must be a JSON list of strings."
        )
    return list(cleaned(cast("list[str]", answer)))
