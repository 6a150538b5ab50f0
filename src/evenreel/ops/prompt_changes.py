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
    if BRACKETS & {*source, *prompt}:
        return ()
    words, others = source.split(), prompt.split()
    spans = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    changes = [span for span in spans if span[0] != "equal"]
    if not 1 < len(changes) <= MOST_APART:
        return ()
    return tuple(
        " ".join([*words[:first], *others[start:stop], *words[last:]])
        for _, first, last, start, stop in changes
    )
