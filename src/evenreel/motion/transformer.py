"""A transformer over frames: what one motion module of AnimateDiff is (arXiv:2307.04725, section 4.2).

Numbers and names of weights are those of diffusers' `AnimateDiffTransformer3D`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_FEED_FORWARD = 4
"""How many times wider the feed-forward's middle is."""
_TOKENS_CPU, _TOKENS = 1024, 65_536
"""Tokens that pass together without gradients: what a processor's cache holds (measured: 1.7 times as fast as all at
once), and what keeps memory bounded elsewhere."""


class FrameTransformer(nn.Module):
    """Every place of a feature map attends to the same place in all frames of its clip."""

    def __init__(self, channels: int, *, heads: int, layers: int, max_frames: int, norm_groups: int) -> None:
        """A module for feature maps of so many channels. The last projection is zero: untrained, it adds nothing."""
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(_Block(channels, heads, max_frames) for _ in range(layers))
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, hidden_states: Tensor, frames: int) -> Tensor:
        """Return what comes in plus what the module adds: (clips*frames channels height width), frames innermost."""
        rows, channels, height, width = hidden_states.shape
        clips = rows // frames
        # Statistics are over all frames of a clip, as in AnimateDiff. Contiguous, because on a CPU the backward pass of
        # group norm crashes for channels_last inputs that need no gradient (PyTorch 2.13).
        maps = hidden_states.view(clips, frames, channels, height, width).transpose(1, 2).contiguous()
        tokens = self.norm(maps).permute(0, 3, 4, 2, 1).reshape(clips * height * width, frames, channels)
        if torch.is_grad_enabled():
            added = self._added(tokens)
        else:
            limit = _TOKENS_CPU if tokens.device.type == "cpu" else _TOKENS
            added = torch.cat([self._added(part) for part in tokens.split(max(1, limit // frames))])
        added = added.view(clips, height, width, frames, channels)
        return hidden_states + added.permute(0, 3, 1, 2, 4).reshape(rows, height, width, channels).movedim(
            -1, 1
        )

    def _added(self, tokens: Tensor) -> Tensor:
        """(places frames channels) -> the same; places know nothing of one another."""
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return self.proj_out(tokens)


class _Block(nn.Module):
    """Twice attention over frames, each time told their positions, then a feed-forward."""

    def __init__(self, channels: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.pos_embed = _Positions(channels, max_frames)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = _Attention(channels, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(places frames channels) -> the same."""
        tokens = tokens + self.attn1(self.pos_embed(self.norm1(tokens)))
        tokens = tokens + self.attn2(self.pos_embed(self.norm2(tokens)))
        return tokens + self.ff(self.norm3(tokens))


class _Positions(nn.Module):
    """Sinusoids that say which frame is which (arXiv:1706.03762, section 3.5)."""

    pe: Tensor

    def __init__(self, channels: int, max_frames: int) -> None:
        super().__init__()
        position = torch.arange(max_frames).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, channels, 2) * (-math.log(10_000.0) / channels))
        pe = torch.zeros(1, max_frames, channels)
        pe[0, :, 0::2] = torch.sin(position * frequency)
        pe[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", pe)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.pe[:, : tokens.shape[1]]


class _Attention(nn.Module):
    """Self-attention among the frames of one place."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        if torch.is_grad_enabled():
            # Plain products: for rows as short as these the backward pass of fused kernels is slower, and on a GPU
            # they refuse more than 65,535 places.
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            attended = scores.softmax(-1) @ value
        else:
            attended = functional.scaled_dot_product_attention(query, key, value)
        return self.to_out[0](attended.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    """Gated feed-forward (GEGLU, arXiv:2002.05202)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [
                _Gated(channels, _FEED_FORWARD * channels),
                nn.Identity(),
                nn.Linear(_FEED_FORWARD * channels, channels),
            ]
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.net:
            tokens = layer(tokens)
        return tokens


class _Gated(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens, gate = self.proj(tokens).chunk(2, dim=-1)
        return tokens * functional.gelu(gate)
