"""What one prompt asks for that another does not, change by change."""

import re
from difflib import SequenceMatcher

MOST_APART = 4
"""Changes up to which each is looked at by itself."""
BRACKETS = frozenset("()[]")
"""Of weights, which belong to several words."""
STOPS = ",.;:!?"
NOT_DESCRIBED = (
    "a an the this that these those his her its their of in on at by to from into onto over under above below behind "
    "beside near with without and or but as while is are was were who which"
)
"""English words that end a noun's phrase when they come behind it."""
PARTICIPLE = re.compile(r"\w*[aeiouy]\w*ing")
"""Rolling and walking, not ring or king."""


def changes_apart(source: str, prompt: str) -> tuple[str, ...]:
    """Return a source prompt with each change of words made by itself; none where there is one, or many, or weights.

    Examples:
        >>> changes_apart("an orange ball on snow", "a blue ball on sand")
        ('a blue ball on snow', 'an orange ball on sand')
    """
    words, others = source.split(), prompt.split()
    changes = _changes(source, prompt)
    if not 1 < len(changes) <= MOST_APART:
        return ()
    return tuple(
        " ".join([*words[:first], *others[start:stop], *words[last:]])
        for _, first, last, start, stop in changes
    )


def is_another_thing(source: str, prompt: str) -> bool:
    """Tell whether a prompt names another thing in one place, and is the source prompt elsewhere; neither has weights.

    It does where words stand in the place of others, and what comes next is nothing that they describe: the end, a
    comma, or one of NOT_DESCRIBED, perhaps behind a participle. This is English, and takes a verb ("sits") for a noun.

    Examples:
        >>> is_another_thing("a red ball on snow", "a red cube on snow")
        True
        >>> is_another_thing("a red ball on snow", "a striped ball on snow")
        False
        >>> is_another_thing("a red ball on snow", "a red cube on sand")
        False
    """
    changes = _changes(source, prompt)
    if len(changes) != 1 or changes[0][0] != "replace":
        return False
    words, others = source.split(), prompt.split()
    _, _, last, _, stop = changes[0]
    if any(said[-1] in STOPS for said in (words[last - 1], others[stop - 1])):
        return True
    behind = [word.lower().strip(STOPS) for word in words[last:]]
    if behind and PARTICIPLE.fullmatch(behind[0]):
        behind = behind[1:]  # of a ball that is rolling on; of a rolling ball, something described comes next
    return not behind or behind[0] in NOT_DESCRIBED.split()


def _changes(source: str, prompt: str) -> list[tuple[str, int, int, int, int]]:
    """Spans of words that differ, as difflib has them; none where there are weights."""
    if BRACKETS & {*source, *prompt}:
        return []
    spans = SequenceMatcher(None, source.split(), prompt.split(), autojunk=False).get_opcodes()
    return [span for span in spans if span[0] != "equal"]
