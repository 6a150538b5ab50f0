"""Prompts as people write them: `(word)`, `(word:1.3)` and `[word]` weigh words, `BREAK` begins another chunk.

The syntax is that of stable-diffusion-webui: round brackets multiply by 1.1, square ones divide by it, a number says by
how much; they may be nested, and a backslash makes a bracket a plain one.
"""

import re
from dataclasses import dataclass

from evenreel.errors import SettingsError

SYNTAXES = ("weights", "plain")
"""How prompts may be read."""
LARGEST_WEIGHT = 10.0
_STEP = 1.1
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_PIECES = re.compile(r"\\[()\[\]\\]|[()\[\]]|[^\\()\[\]]+|\\")
_WEIGHT = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")
_STRANGE = re.compile(
    r"<(?:lora|lyco|hypernet|embedding):[^<>]*>|__[\w/-]+__|\{[^{}]*\|[^{}]*\}|\[[^\[\]]*:[^\[\]]*:[^\[\]]*\]"
    r"|\[[^\[\]]*\|[^\[\]]*\]|\bembedding:\S+|(?<=\s)AND(?=\s)"
)
"""What other programs give a meaning and this one reads as plain words."""


@dataclass(frozen=True)
class Segment:
    """Text, and how much it counts."""

    text: str
    weight: float = 1.0


Chunks = tuple[tuple[Segment, ...], ...]
"""A prompt: pieces between BREAKs, each a row of segments."""


def parse(prompt: str, syntax: str = "weights") -> Chunks:
    """Read a prompt. Text without any syntax, and every text where `syntax` is `plain`, is one segment as it stands.

    Raises: SettingsError for a weight that is too large.
    """
    if syntax == "plain":
        return ((Segment(prompt),),)
    return tuple(_weighed(piece) for piece in _BREAK.split(prompt))


def strange(prompt: str) -> tuple[str, ...]:
    """Return what in a prompt has a meaning elsewhere and is read as plain words here, each once."""
    found = [match.group() for match in _STRANGE.finditer(prompt)]
    plain = re.sub(r"\\.", "", prompt)
    if plain.count("(") != plain.count(")") or plain.count("[") != plain.count("]"):
        found.append("a bracket without its other one")
    return tuple(dict.fromkeys(found))


def _weighed(text: str) -> tuple[Segment, ...]:
    pieces = _PIECES.findall(text)
    matching = _brackets(pieces)
    segments: list[Segment] = []
    _read(pieces, matching, 0, len(pieces), 1.0, segments)
    return tuple(segments) or (Segment(""),)


def _read(
    pieces: list[str], matching: dict[int, int], start: int, end: int, weight: float, out: list[Segment]
) -> None:
    """Append the segments of some pieces, inside brackets that weigh them by `weight`."""
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
        _read(pieces, matching, at + 1, closing, weight * factor, out)
        at = closing + 1


def _append(out: list[Segment], text: str, weight: float) -> None:
    if not text:
        return
    if out and out[-1].weight == weight:
        out[-1] = Segment(out[-1].text + text, weight)
    else:
        out.append(Segment(text, weight))


def _brackets(pieces: list[str]) -> dict[int, int]:
    """Where brackets that have another one open and close; those of `[a:b:c]` and `[a|b]` are plain characters."""
    matching: dict[int, int] = {}
    opened: list[int] = []
    for at, piece in enumerate(pieces):
        if piece in ("(", "["):
            opened.append(at)
        elif piece in (")", "]") and opened:
            wanted = "(" if piece == ")" else "["
            if pieces[opened[-1]] == wanted:
                start = opened.pop()
                inside = "".join(pieces[start : at + 1])
                if not _STRANGE.fullmatch(inside):
                    matching[start] = at
    return matching
