"""Bipartite token merging: tokens that resemble others are dropped, and restored from them afterwards.

Token merging (arXiv:2210.09461) as VidToMe uses it across frames (arXiv:2312.10656, section 4).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Tokens = Float[Tensor, "samples tokens channels"]
Positions = Int[Tensor, "_"]
Table = Int[Tensor, "_ _"]

_SCORES_AT_ONCE = 2**24
"""Similarities held together; bounds memory at 64 MiB in float32."""


@dataclass(frozen=True)
class Merge:
    """A shorter sequence that stands for a longer one. Tables have one row for each sample, or one for all."""

    kept: Table
    """For each token of the merged sequence, its position in the full one."""
    origin: Table
    """For each token of the full sequence, the position in the merged one of the token that stands for it."""

    @classmethod
    def nothing(cls, tokens: int, device: torch.device) -> "Merge":
        """Return the merge that leaves a sequence as it is."""
        table = torch.arange(tokens, device=device)[None]
        return cls(kept=table, origin=table)

    def apply(self, full: Float[Tensor, "samples full channels"]) -> Tokens:
        """Return the merged sequence: what is dropped leaves no trace in what stays."""
        return _take(full, self.kept)

    def undo(self, merged: Float[Tensor, "samples merged channels"]) -> Tokens:
        """Return the full sequence, every dropped token a copy of the one it was merged into."""
        return _take(merged, self.origin)

    def then(self, after: "Merge") -> "Merge":
        """Return this merge followed by a merge of its result."""
        return Merge(kept=_compose(self.kept, after.kept), origin=_compose(after.origin, self.origin))


def match(
    tokens: Tokens, sources: Positions, destinations: Positions, ratio: float, *, aligned: bool
) -> Merge:
    """Merge a share `ratio` of the sources, those with the closest destinations, into these.

    Together, `sources` and `destinations` name every position once. The merged sequence holds the sources that stay,
    the most similar first, and then all destinations. `aligned` makes one decision for all samples: a source's
    best match over all of them counts, and its destination serves each.
    """
    best, nearest = _nearest(tokens, sources, destinations, aligned=aligned)
    ranked = best.argsort(dim=-1, descending=True)
    dropped = min(len(sources), int(len(sources) * ratio))
    staying, leaving = sources[ranked[:, dropped:]], sources[ranked[:, :dropped]]
    rows, stay = len(ranked), staying.shape[1]

    place = torch.arange(stay + len(destinations), device=tokens.device).expand(rows, -1)
    kept = torch.cat([staying, destinations.expand(rows, -1)], dim=1)
    origin = torch.empty((rows, tokens.shape[1]), dtype=torch.long, device=tokens.device)
    origin.scatter_(1, kept, place)
    origin.scatter_(1, leaving, stay + nearest.gather(1, ranked[:, :dropped]))
    return Merge(kept=kept, origin=origin)


def _nearest(
    tokens: Tokens, sources: Positions, destinations: Positions, *, aligned: bool
) -> tuple[Float[Tensor, "rows sources"], Int[Tensor, "rows sources"]]:
    """Cosine similarity of each source to its closest destination, and which that is."""
    # The smallest number only guards a token of zeros, which has no direction.
    normed = tokens / tokens.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(tokens.dtype).tiny)
    targets = normed[:, destinations].mT
    rows = max(1, _SCORES_AT_ONCE // (len(tokens) * max(1, len(destinations))))
    blocks = [(normed[:, block] @ targets).max(dim=-1) for block in sources.split(rows)]
    best = torch.cat([block.values for block in blocks], dim=1)
    nearest = torch.cat([block.indices for block in blocks], dim=1)
    if aligned:
        best, sample = best.max(dim=0, keepdim=True)
        nearest = nearest.gather(0, sample)
    return best, nearest


def _take(tokens: Tensor, table: Tensor) -> Tensor:
    if len(table) == 1:
        return tokens[:, table[0]]
    return tokens.gather(1, table[..., None].expand(-1, -1, tokens.shape[-1]))


def _compose(outer: Tensor, inner: Tensor) -> Tensor:
    rows = max(len(outer), len(inner))
    return outer.expand(rows, -1).gather(1, inner.expand(rows, -1))
