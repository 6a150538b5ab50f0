"""Which tokens of one prompt stand for which of another, by words or by the tokens they share.

Used by prompt-to-prompt (arXiv:2208.01626, section 3.2), where attention to the tokens of a source prompt becomes
attention to those of an edited one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

TokenMap = Float[Tensor, "length length"]
"""Attention to a source token (row) that goes to a target token (column)."""

TokensOfWords = Sequence[Sequence[int]]
"""For each word, the positions of its tokens; together they follow the begin mark without a gap."""


def replacement(
    source: TokensOfWords,
    target: TokensOfWords,
    changed: Sequence[bool],
    length: int,
    *,
    published: bool = False,
) -> TokenMap:
    """Attention moves from each word to the word in its place ("word swap").

    Words with as many tokens map one to one, others from every token to an equal share of every token. The marks and
    the padding map in their order, and what is left over at the end goes to the last token, so that every row sums
    to 1. `published` leaves the diagonal after the last of the `changed` words, as the implementations do: when the
    lengths differ, the tail is out of step with the prompt.
    """
    mapping = torch.zeros(length, length)
    mapping[0, 0] = 1
    row = column = 1
    end_of_changes = (1, 1)
    for ours, theirs, differs in zip(source, target, changed, strict=True):
        rows, columns = len(ours), len(theirs)
        block = torch.eye(rows) if rows == columns else torch.full((rows, columns), 1 / max(columns, 1))
        mapping[row : row + rows, column : column + columns] = block
        row, column = row + rows, column + columns
        if differs:
            end_of_changes = (row, column)
    if not published:
        rest = torch.arange(row, length)
        mapping[rest, (rest - row + column).clamp(max=length - 1)] = 1
        return mapping
    row, column = end_of_changes
    mapping[row:], mapping[:, column:] = 0, 0
    diagonal = torch.arange(column, min(length, length - row + column))
    mapping[diagonal, diagonal] = 1
    return mapping


def refinement(
    source_ids: Sequence[int], target_ids: Sequence[int], length: int, *, published: bool = False
) -> tuple[Int[Tensor, "length"], Float[Tensor, "length"]]:
    """For each target token the source token it is the same as, or -1; and how much it counts, 1 or 0.

    The tokens that both prompts share are found by their longest common subsequence, of which there may be several:
    this one leaves target tokens out as late as it can. Padding follows padding; `published` maps it to the same
    position, which is one of the source's words when the target is shorter.
    """
    mapping = torch.arange(length)
    if not published:
        mapping += len(source_ids) - len(target_ids)
        mapping[mapping >= length] = -1
    mapping[: len(target_ids)] = torch.tensor(_common_subsequence(source_ids, target_ids))
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
