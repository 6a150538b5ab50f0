"""What one prompt asks for that another does not, change by change."""

from difflib import SequenceMatcher

MOST_APART = 4
"""Changes up to which each is looked at by itself."""
BRACKETS = frozenset("()[]")
"""Of weights, which belong to several words."""


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


def is_one_change(source: str, prompt: str) -> bool:
    """Tell whether a prompt differs from a source prompt in words of one place alone, and neither has weights.

    Examples:
        >>> is_one_change("a red ball on snow", "a red cube on snow")
        True
        >>> is_one_change("a red ball on snow", "a red cube on sand")
        False
    """
    return len(_changes(source, prompt)) == 1


def _changes(source: str, prompt: str) -> list[tuple[str, int, int, int, int]]:
    """Spans of words that differ, as difflib has them; none where there are weights."""
    if BRACKETS & {*source, *prompt}:
        return []
    spans = SequenceMatcher(None, source.split(), prompt.split(), autojunk=False).get_opcodes()
    return [span for span in spans if span[0] != "equal"]
