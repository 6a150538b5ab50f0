"""Which tokens of one prompt stand for which of another, by words or by the tokens they share.

Used by prompt-to-prompt (arXiv:2208.01626, section 3.2), where attention to the tokens of a source prompt becomes
attention to those of an edited one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

TokenMap = Float[Tensor, "length length"]
"""Attention to a source token (row) that goes to a target token (column)."""

TokensOfWords = Sequence[Sequence[int]]
"""For each word, the positions of its tokens; in a prompt that is read at once they follow the begin mark without a
gap."""

Places = tuple[Sequence[int], Sequence[int]]
"""Positions of the tokens of a source prompt and of a target prompt."""


def replacement(
    source: TokensOfWords, target: TokensOfWords, changed: Sequence[bool], length: int
) -> TokenMap:
    """Move attention from each word to the word in its place ("word swap").

    Words with as many tokens map one to one, others from every token to an equal share of every token. The marks and
    the padding map in their order, and what is left over at the end goes to the last token, so that every row sums
    to 1. Which words are `changed` does not matter here.
    """
    del changed
    mapping = _words_mapped(source, target, length)
    left, onto = _others(source, length), _others(target, length)
    for count, row in enumerate(left):
        mapping[row, onto[min(count, len(onto) - 1)]] = 1
    return mapping


def published_replacement(
    source: TokensOfWords, target: TokensOfWords, changed: Sequence[bool], length: int
) -> TokenMap:
    """Move attention as the implementations do: one to one from where the last of the `changed` words ends.

    When the lengths differ, the tail is out of step with the prompt.
    """
    mapping = _words_mapped(source, target, length)
    mapping[0, 0] = 1
    row = column = 1
    last = max((number for number, differs in enumerate(changed) if differs), default=-1)
    for ours, theirs in zip(source[: last + 1], target[: last + 1], strict=True):
        row, column = row + len(ours), column + len(theirs)
    mapping[row:], mapping[:, column:] = 0, 0
    diagonal = torch.arange(column, min(length, length - row + column))
    mapping[diagonal, diagonal] = 1
    return mapping


def refinement(
    source_ids: Sequence[int], target_ids: Sequence[int], length: int, places: Places | None = None
) -> tuple[Int[Tensor, "length"], Float[Tensor, "length"]]:
    """Find for each target token the source token it is the same as, or -1; and how much it counts, 1 or 0.

    The tokens that both prompts share are found by their longest common subsequence, of which there may be several:
    this one leaves target tokens out as late as it can. Padding follows padding. `places` are the positions of the
    tokens of both prompts, where these are read in several chunks; by default 0, 1, 2, ...
    """
    ours, theirs = places or (range(len(source_ids)), range(len(target_ids)))
    mapping = torch.arange(length)
    left, onto = _others([ours], length), _others([theirs], length)
    mapping[onto] = torch.tensor([*left, *[-1] * length][: len(onto)], dtype=mapping.dtype)
    return _refined(source_ids, target_ids, mapping, (ours, theirs))


def published_refinement(
    source_ids: Sequence[int], target_ids: Sequence[int], length: int, places: Places | None = None
) -> tuple[Int[Tensor, "length"], Float[Tensor, "length"]]:
    """Do as `refinement`, but map padding to the same position, as the implementations do.

    That is one of the source's words when the target is shorter.
    """
    places = places or (range(len(source_ids)), range(len(target_ids)))
    return _refined(source_ids, target_ids, torch.arange(length), places)


class Alignment(NamedTuple):
    """How two prompts are aligned: where words were swapped, and where some were added or left out."""

    replacement: Callable[[TokensOfWords, TokensOfWords, Sequence[bool], int], TokenMap] = replacement
    refinement: Callable[[Sequence[int], Sequence[int], int, "Places | None"], tuple[Tensor, Tensor]] = (
        refinement
    )


CORRECTED = Alignment()
"""As this package does it."""
PUBLISHED = Alignment(published_replacement, published_refinement)
"""As the published implementations do it."""


def _words_mapped(source: TokensOfWords, target: TokensOfWords, length: int) -> TokenMap:
    mapping = torch.zeros(length, length)
    for ours, theirs in zip(source, target, strict=True):
        rows, columns = len(ours), len(theirs)
        block = torch.eye(rows) if rows == columns else torch.full((rows, columns), 1 / max(columns, 1))
        if rows and columns:
            mapping[torch.tensor(ours)[:, None], torch.tensor(theirs)] = block
    return mapping


def _others(words: TokensOfWords, length: int) -> list[int]:
    """Positions that belong to no word: marks and padding."""
    taken = {position for word in words for position in word}
    return [position for position in range(length) if position not in taken]


def _refined(
    source_ids: Sequence[int], target_ids: Sequence[int], mapping: Int[Tensor, "length"], places: Places
) -> tuple[Int[Tensor, "length"], Float[Tensor, "length"]]:
    """What is shared, entered where `mapping` has padding only so far."""
    ours, theirs = places
    found = [ours[row] if row >= 0 else -1 for row in _common_subsequence(source_ids, target_ids)]
    mapping[list(theirs)] = torch.tensor(found)
    return mapping, (mapping >= 0).float()


def _common_subsequence(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """For each target token the source token at which both agree, or -1."""
    best = [[0] * (len(target) + 1) for _ in range(len(source) + 1)]
    for row, ours in enumerate(source):
        for column, theirs in enumerate(target):
            shared = best[row][column] + 1 if ours == theirs else 0
            best[row + 1][column + 1] = max(best[row + 1][column], best[row][column + 1], shared)
    found, row, column = [-1] * len(target), len(source), len(target)
    while row and column:
        if best[row][column] == best[row][column - 1]:
            column -= 1
        elif best[row][column] == best[row - 1][column]:
            row -= 1
        else:
            row, column = row - 1, column - 1
            found[column] = row
    return found
