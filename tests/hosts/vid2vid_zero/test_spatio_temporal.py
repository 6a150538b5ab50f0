"""Attention across frames: what a frame sees, whole clips and windows of them."""

import pytest
import torch
from diffusers.models.attention_processor import Attention

from closeness import assert_apart, assert_close
from evenreel.errors import SettingsError
from evenreel.hosts.vid2vid_zero.spatio_temporal import (
    DenseAttention,
    SparseCausalAttention,
    VideoAttentionState,
    norms_shared,
    video_attentions,
)
from tiny import SD1, tiny_unet
from tiny_xl import tiny_xl_unet

WIDTH, PLACES, BRANCHES = 16, 4, 2
KINDS = pytest.mark.parametrize("kind", [DenseAttention, SparseCausalAttention])


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention():
    torch.manual_seed(0)
    return Attention(WIDTH, heads=2, dim_head=8).eval()


def clip(frames):
    """Tokens (branches, frames, places, channels)."""
    return random(BRANCHES, frames, PLACES, WIDTH)


def watched(kind, tokens, windows):
    """What a layer makes of a clip that passes window by window."""
    attn, state, parts = attention(), VideoAttentionState(branches=BRANCHES), []
    attn.set_processor(kind(attn.processor, "layer", state))
    for index, window in enumerate(windows):
        state.more = index + 1 < len(windows)
        output = attn(tokens[:, window].flatten(0, 1))
        parts.append(output.unflatten(0, (BRANCHES, -1)))
    return torch.cat(parts, dim=1)


def seen_by(tokens, frames):
    """What plain attention makes of each frame when it sees the frames listed for it."""
    attn = attention()
    return torch.stack(
        [attn(tokens[:, i], tokens[:, seen].flatten(1, 2)) for i, seen in enumerate(frames)], dim=1
    )


@torch.no_grad()
def test_sparse_causal_frames_see_the_first_and_the_one_before():
    tokens = clip(4)
    expected = seen_by(tokens, [[0], [0], [0, 1], [0, 2]])
    assert_close(watched(SparseCausalAttention, tokens, [[0, 1, 2, 3]]), expected)


@pytest.mark.parametrize("windows", [[[0], [1, 2], [3, 4]], [[0, 1, 2], [3], [4]], [[0], [1], [2], [3], [4]]])
@torch.no_grad()
def test_windows_of_sparse_causal_frames_are_exact(windows):
    tokens = clip(5)
    whole = watched(SparseCausalAttention, tokens, [[0, 1, 2, 3, 4]])
    assert_close(watched(SparseCausalAttention, tokens, windows), whole)


@pytest.mark.parametrize(
    ("windows", "seen"),
    [
        ([[0, 1, 2, 3, 4]], [range(5)] * 5),
        ([[0, 1], [2, 3, 4]], [[0, 1]] * 2 + [[0, 1, 2, 3, 4]] * 3),
        ([[0, 1, 2], [3, 4]], [[0, 1, 2]] * 3 + [[0, 2, 3, 4]] * 2),
        # A frame that is the first and the last before a window counts once.
        ([[0], [1, 2], [3, 4]], [[0]] + [[0, 1, 2]] * 2 + [[0, 2, 3, 4]] * 2),
    ],
)
@torch.no_grad()
def test_dense_frames_see_their_window_and_two_before(windows, seen):
    tokens = clip(5)
    expected = seen_by(tokens, [list(frames) for frames in seen])
    assert_close(watched(DenseAttention, tokens, windows), expected)


@KINDS
@torch.no_grad()
def test_branches_do_not_mix(kind):
    tokens = clip(3)
    both = watched(kind, tokens, [[0, 1], [2]])
    tokens[1] = 0
    other = watched(kind, tokens, [[0, 1], [2]])
    assert_close(both[0], other[0])
    assert_apart(both[1], other[1], by=0.01)


@KINDS
@torch.no_grad()
def test_one_frame_sees_itself(kind):
    tokens = clip(1)
    plain = attention()(tokens.flatten(0, 1)).unflatten(0, (BRANCHES, 1))
    assert_close(watched(kind, tokens, [[0]]), plain)


def test_nothing_is_kept_for_windows_that_do_not_follow():
    state = VideoAttentionState(branches=BRANCHES)
    state.before("layer", clip(2))
    assert not state.first
    assert not state.last
    state.more = True
    state.before("layer", clip(2))
    assert state.first["layer"].shape == state.last["layer"].shape == (BRANCHES, PLACES, WIDTH)
    state.forget()
    assert not state.before("layer", clip(2))


def test_three_layers_are_dense():
    unet = tiny_unet(**SD1)
    for block in (0, 1):
        processors = video_attentions(unet, VideoAttentionState(), block)
        assert len(processors) == 16
        dense = [name for name, processor in processors.items() if isinstance(processor, DenseAttention)]
        blocks = [name.partition(".transformer_blocks")[0] for name in dense]
        assert sorted(blocks) == [
            f"down_blocks.{block}.attentions.0",
            "mid_block.attentions.0",
            f"up_blocks.{block + 1}.attentions.0",
        ]
    with pytest.raises(SettingsError, match=r"dense_block 3 .*down_blocks\.3"):
        video_attentions(unet, VideoAttentionState(), 3)


def test_a_block_without_attention_leaves_it_to_the_next():
    """As SD-XL's first block, whose mirror is the last one."""
    processors = video_attentions(tiny_xl_unet(), VideoAttentionState(), 0)
    dense = [name for name, processor in processors.items() if isinstance(processor, DenseAttention)]
    assert sorted(name.partition(".processor")[0] for name in dense) == [
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1",
        "mid_block.attentions.0.transformer_blocks.0.attn1",
        "up_blocks.1.attentions.0.transformer_blocks.0.attn1",
    ]
    with pytest.raises(SettingsError, match=r"dense_block 1 .*up_blocks\.2"):
        video_attentions(tiny_xl_unet(), VideoAttentionState(), 1)


@torch.no_grad()
def test_shared_norms_are_those_of_one_tall_picture():
    """And of equal frames those of each alone."""
    unet = tiny_unet()
    text = random(1, 3, 32, seed=1).expand(3, -1, -1)
    still = random(1, 4, 8, 8).expand(3, -1, -1, -1)
    plain = unet(still, 1, text).sample
    norm, rows = unet.conv_norm_out, random(3, 32, 8, 8, seed=2)
    with norms_shared(unet, lambda: 3):
        assert_close(unet(still, 1, text).sample, plain)
        shared = norm(rows)
    tall = norm(rows.permute(1, 0, 2, 3).reshape(1, 32, 24, 8))
    assert_close(shared, tall.view(32, 3, 8, 8).permute(1, 0, 2, 3))
    assert torch.equal(unet(still, 1, text).sample, plain)
