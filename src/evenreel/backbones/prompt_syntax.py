"""Prompts as people write them: `(word)`, `(word:1.3)` and `[word]` weigh words, `BREAK` begins another chunk.

The syntax is that of stable-diffusion-webui: round brackets multiply by 1.1, square ones divide by it, a number says by
how much; they may be nested, and a backslash makes a bracket a plain one.
"""

import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

from evenreel.errors import SettingsError, argument

SYNTAXES = ("weights", "plain")
"""How prompts may be read."""
LARGEST_WEIGHT = 10.0
DEEPEST = 100
"""Brackets inside each other, at most."""
_STEP = 1.1
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_PIECES = re.compile(r"\\[()\[\]\\]|[()\[\]]|[^\\()\[\]]+|\\")
_WEIGHT = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")
_STRANGE = re.compile(
    r"<(?:lora|lyco|hypernet|embedding):[^<>]*>|__[\w/-]+__|(?<!\\)\{+[^{}]*\}+|\bembedding:\S+|(?<=\s)AND(?=\s)"
)
"""What other programs give a meaning and this one reads as plain words; besides it, `_changes_on_the_way`."""


@dataclass(frozen=True)
class Segment:
    """Text, and how much it counts."""

    text: str
    weight: float = 1.0


Chunks = tuple[tuple[Segment, ...], ...]
"""A prompt: pieces between BREAKs, each a row of segments."""


def parse(prompt: str, syntax: str = "weights") -> Chunks:
    """Read a prompt. Text without any syntax, and every text where `syntax` is `plain`, is one segment as it stands.

    Raises: SettingsError for a weight that is too large, or brackets that are too deep.
    """
    if syntax == "plain":
        return ((Segment(prompt),),)
    chunks: list[list[Segment]] = [[]]
    # brackets first: one that holds a BREAK weighs what is on both sides of it
    for segment in _weighed(prompt):
        first, *others = _BREAK.split(segment.text)
        _append(chunks[-1], first, segment.weight)
        for text in others:
            chunks.append([])
            _append(chunks[-1], text, segment.weight)
    return tuple(tuple(chunk) or (Segment(""),) for chunk in chunks)


def strange(prompt: str) -> tuple[str, ...]:
    """Return what in a prompt has a meaning elsewhere and is read as plain words here, each once."""
    pieces = _PIECES.findall(prompt)
    matching, changing = _brackets(pieces)
    told = ["".join(pieces[start : end + 1]) for start, end in changing.items()]
    others = (match.group() for match in _STRANGE.finditer(prompt))
    found = [*told, *(one for one in others if not any(one in whole for whole in told))]
    closed = {*matching, *matching.values()}
    for start, end in changing.items():
        closed.update(range(start, end + 1))
    if any(piece in ("(", ")", "[", "]") and at not in closed for at, piece in enumerate(pieces)):
        found.append("a bracket without its other one")
    return tuple(dict.fromkeys(found))


def _weighed(text: str) -> list[Segment]:
    pieces = _PIECES.findall(text)
    matching, _ = _brackets(pieces)
    segments: list[Segment] = []
    _read(pieces, matching, 0, len(pieces), 1.0, segments)
    return segments


def _read(
    pieces: list[str],
    matching: dict[int, int],
    start: int,
    end: int,
    weight: float,
    out: list[Segment],
    depth: int = 0,
) -> None:
    """Append the segments of some pieces, inside brackets that weigh them by `weight`."""
    if depth > DEEPEST:
        raise SettingsError(
            f"the prompt has brackets more than {DEEPEST} deep; take some away, or pass "
            f"{argument('prompt_syntax')} plain."
        )
    at = start
    while at < end:
        piece = pieces[at]
        if at not in matching:
            _append(out, piece[1:] if len(piece) == 2 and piece[0] == "\\" else piece, weight)
            at += 1
            continue
        closing = matching[at]
        factor, inside = (_STEP if piece == "(" else 1 / _STEP), pieces[at + 1 : closing]
        number = (
            _WEIGHT.search(inside[-1]) if piece == "(" and inside and closing - 1 not in matching else None
        )
        if number is not None and not inside[-1].startswith("\\"):
            factor = float(number[1])
            pieces = [*pieces[: closing - 1], inside[-1][: number.start()], *pieces[closing:]]
        if abs(weight * factor) > LARGEST_WEIGHT:
            raise SettingsError(
                f"the weight {weight * factor:g} in the prompt is too large; "
                f"stay between -{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}."
            )
        _read(pieces, matching, at + 1, closing, weight * factor, out, depth + 1)
        at = closing + 1


def _append(out: list[Segment], text: str, weight: float) -> None:
    if not text:
        return
    if out and out[-1].weight == weight:
        out[-1] = Segment(out[-1].text + text, weight)
    else:
        out.append(Segment(text, weight))


def _brackets(pieces: list[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Where brackets that weigh words open and close; and where those that are plain characters, with all inside, since
    they tell of a prompt that changes on the way."""
    matching: dict[int, int] = {}
    changing: dict[int, int] = {}
    opened: list[int] = []
    for at, piece in enumerate(pieces):
        if piece in ("(", "["):
            opened.append(at)
        elif piece in (")", "]") and opened and pieces[opened[-1]] + piece in ("()", "[]"):
            start = opened.pop()
            found = matching
            if piece == "]" and _changes_on_the_way(
                _outermost(pieces, start, at, ChainMap(changing, matching))
            ):
                found = changing
                for known in (matching, changing):
                    while known and next(reversed(known)) > start:  # those inside were closed last
                        known.popitem()
            found[start] = at
    return matching, changing


def _outermost(pieces: list[str], start: int, end: int, closing: Mapping[int, int]) -> str:
    """The text between two brackets, without escaped characters and what is in brackets of its own."""
    text, at = "", start + 1
    while at < end:
        if at in closing:
            at = closing[at]
        elif not pieces[at].startswith("\\"):
            text += pieces[at]
        at += 1
    return _STRANGE.sub("", text)


def _changes_on_the_way(text: str) -> bool:
    """Whether stable-diffusion-webui would read `[text]` as `[to:when]`, `[from:to:when]` or `[one|other]`."""
    return "|" in text or text.count(":") > 1 or _WEIGHT.search(text) is not None
