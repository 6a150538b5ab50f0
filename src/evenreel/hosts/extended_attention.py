"""Self-attention over several frames: every frame sees the tokens of all."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones.hooks import AttnProcessor
from evenreel.hosts.attention_stand_in import AttentionStandIn

Sequences = Float[Tensor, "_ tokens channels"]
"""The tokens of several frames in a row, one sequence for each branch."""

_SCORES_AT_ONCE = 2**28
"""Attention scores of one call; fused kernels hold none of them, the others 1 GiB in float32."""


def attend(
    inner: AttnProcessor,
    attn: Any,
    queries: Sequences,
    keys: Float[Tensor, "_ seen channels"],
    values: Float[Tensor, "branches seen channels"],
) -> Float[Tensor, "branches tokens channels"]:
    """Return what `inner` computes when its queries, keys and values come from different tokens.

    `queries` and `keys` have one row for each of the `values`' branches, or one for all. Raises: SettingsError for a
    model whose projections are fused.
    """
    projected = _Projected(attn)
    projected.project(keys, values)
    rows = max(1, _SCORES_AT_ONCE // (attn.heads * len(values) * values.shape[1]))
    blocks = torch.split(queries.expand(len(values), -1, -1), rows, dim=1)
    return torch.cat([inner(projected, block, values) for block in blocks], dim=1)


class _Projected(AttentionStandIn):
    """An attention module whose keys and values are there already, the same for every call."""

    def project(self, keys: Tensor, values: Tensor) -> None:
        """Make them, from tokens."""
        self._keys = self._attn.to_k(keys).expand(len(values), -1, -1)
        self._values = self._attn.to_v(values)

    def to_k(self, _: Tensor) -> Tensor:
        return self._keys

    def to_v(self, _: Tensor) -> Tensor:
        return self._values
