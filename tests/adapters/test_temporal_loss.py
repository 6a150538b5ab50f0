"""Laws of the temporal losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closeness import assert_close
from evenreel.adapters.temporal_loss import (
    FORMS,
    cosines,
    frames_loss,
    source_anchored_loss,
    temporal_loss,
)
from evenreel.errors import SettingsError
from evenreel.ops.token_motion import TokenMotion, along_flow, by_resemblance, grid_of


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loss_of(form, features, source, frames):
    """Every form on one video, or two noise levels of one."""
    if form == "noise-levels":
        features = torch.cat([features, source])
        return temporal_loss(form, [features], frames=frames, levels=2)
    return temporal_loss(form, [features], frames=frames, source=[source])


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_differences(form):
    features, source = noise(3, 4, 5, seed=1).requires_grad_(), noise(3, 4, 5, seed=2)
    assert torch.autograd.gradcheck(lambda x: loss_of(form, x, source, 3), features)


@pytest.mark.parametrize("form", FORMS)
def test_scaling_the_features_of_a_frame_changes_nothing(form):
    features, source = noise(3, 4, 5, seed=1), noise(3, 4, 5, seed=2)
    scale = torch.tensor([0.1, 3.0, 40.0], dtype=torch.float64).view(3, 1, 1)
    loss = loss_of(form, features, source, 3).item()
    assert loss > 1e-3
    assert loss_of(form, features * scale, source, 3).item() == pytest.approx(loss)
    assert loss_of(form, features, source * scale, 3).item() == pytest.approx(loss)


@pytest.mark.parametrize("form", FORMS)
def test_a_still_clip_of_a_still_source_costs_nothing(form):
    one = noise(1, 4, 5).expand(3, -1, -1)
    assert loss_of(form, one, one, 3).item() == pytest.approx(0, abs=1e-12)


def test_flicker_is_free_by_equation_4_and_dear_when_anchored():
    """Frames that turn round and back again resemble each other the same at all times: not at all."""
    still = noise(1, 6, 5).expand(4, -1, -1)
    flicker = still * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(4, 1, 1)
    assert temporal_loss("frames", [flicker], frames=4).item() == pytest.approx(0, abs=1e-12)
    anchored = temporal_loss("source-anchored", [flicker], frames=4, source=[still])
    assert anchored.item() == pytest.approx(4)
    # A source that flickers itself is to be followed.
    assert temporal_loss("source-anchored", [flicker], frames=4, source=[flicker]).item() < 1e-12


def moved_tokens(frames, step):
    """A grid of 1 x 8 tokens all different, that moves on by `step` tokens a frame and comes round again."""
    one = noise(8, 6, seed=3)
    return torch.stack([one.roll(step * frame, 0) for frame in range(frames)])


def test_motion_of_the_source_is_followed():
    source = moved_tokens(3, 2)
    restyled = source @ noise(6, 9, seed=4)  # other features, moving along
    static = restyled[:1].expand(3, -1, -1)  # a style that sticks to the screen
    follows = source_anchored_loss(restyled, source, 3)
    sticks = source_anchored_loss(static, source, 3)
    assert follows.item() == pytest.approx(0, abs=1e-12)
    assert sticks.item() > 0.5


def test_every_video_and_level_is_compared_with_its_own_source():
    sources = torch.cat([moved_tokens(2, 1), moved_tokens(2, 3)])
    edits = sources.view(2, 1, 2, 8, 6).expand(-1, 3, -1, -1, -1).reshape(12, 8, 6)
    edits = edits + 0.3 * noise(12, 8, 6, seed=5)
    together = source_anchored_loss(edits, sources, 2, levels=3)
    alone = [
        source_anchored_loss(edits[6 * video + 2 * level :][:2], sources[2 * video : 2 * video + 2], 2).item()
        for video in (0, 1)
        for level in range(3)
    ]
    assert together.item() == pytest.approx(sum(alone) / 6)


def test_the_source_is_a_constant():
    source = moved_tokens(2, 1).requires_grad_()
    features = (moved_tokens(2, 1) + 0.1 * noise(2, 8, 6)).requires_grad_()
    source_anchored_loss(features, source, 2).backward()
    assert features.grad.abs().max() > 0
    assert source.grad is None


def test_what_nobody_is_sure_of_costs_nothing():
    features, source = noise(2, 4, 5, seed=1).requires_grad_(), noise(2, 4, 5, seed=2)
    places = torch.arange(4).view(1, 4, 1)
    unsure = TokenMotion(places=places, shares=torch.ones(1, 4, 1), sure=torch.zeros(1, 4))
    loss = source_anchored_loss(features, source, 2, motion=unsure)
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


@given(st.integers(3, 7), st.integers(1, 4), st.integers(0, 2**32), st.floats(0.01, 100))
@settings(max_examples=100)
def test_gradient_bound_of_equation_4(frames, width, seed, smallest):
    """Per frame at most 16 / ((T - 1) m), m the smallest norm (theory: C.3 corrected)."""
    features = noise(frames, width + 1, seed=seed)
    features = (features * smallest / features.norm(dim=1).min()).requires_grad_()
    frames_loss(features[None], eq22=True).backward()
    assert features.grad.norm(dim=1).max() <= 16 / ((frames - 1) * smallest) * (1 + 1e-9)


@given(st.integers(0, 2**32), st.floats(0.05, 20), st.floats(1e-3, 0.5))
@settings(max_examples=100)
def test_the_gradient_of_equation_4_is_lipschitz(seed, smallest, step):
    """At most 64 / ((T - 1) m^2) along segments that keep norms above m."""
    one = noise(4, 3, seed=seed)
    one = one * (1 + step) * smallest / one.norm(dim=1).min()
    change = noise(4, 3, seed=seed + 1)
    change = change * step * smallest / change.norm(dim=1).max()

    def gradient(features):
        features = features.clone().requires_grad_()
        frames_loss(features[None], eq22=True).backward()
        return features.grad

    moved = (gradient(one + change) - gradient(one)).norm()
    assert moved <= 64 / (3 * smallest**2) * change.norm() * (1 + 1e-9)


def test_the_papers_lipschitz_constant_is_too_small():
    """Its counterexample: M = 0.01, three frames, the one in the middle turned by 0.001."""
    m = 0.01
    one = m * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    turned = one.clone()
    turned[1] = m * torch.tensor([-math.sin(1e-3), math.cos(1e-3)])

    def gradient(features):
        features = features.clone().requires_grad_()
        frames_loss(features[None], eq22=True).backward()
        return features.grad

    ratio = float((gradient(turned) - gradient(one)).norm() / (turned - one).norm())
    assert 16 / m < ratio <= 64 / (2 * m**2)


def test_features_without_a_direction_have_no_gradient():
    features = noise(3, 2, 4)
    features[1, 0] = 0
    features.requires_grad_()
    temporal_loss(
        "noise-levels", [torch.cat([features, noise(3, 2, 4, seed=1)])], frames=3, levels=2
    ).backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[1, 0].any()
    assert cosines(torch.zeros(1, 4), torch.ones(1, 4)).item() == 0


def test_half_precision_is_computed_in_single():
    large = torch.full((1, 1, 64), 200.0, dtype=torch.float16)  # whose squares overflow
    assert cosines(large, large).item() == pytest.approx(1)


def test_losses_of_layers_are_added():
    layers = [noise(3, 4, 5, seed=1), noise(3, 9, 2, seed=2)]
    alone = [temporal_loss("frames", [layer], frames=3).item() for layer in layers]
    assert temporal_loss("frames", layers, frames=3).item() == pytest.approx(sum(alone))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"form": "videos"}, "must be one of frames, noise-levels, source-anchored"),
        ({"form": "frames"}, "needs at least 3 frames, got 2"),
        ({"form": "noise-levels"}, "compares 2 noise levels, got 1"),
        ({"form": "source-anchored"}, "needs the source's features"),
        ({"form": "noise-levels", "levels": 2, "frames": 3}, "no whole number of clips of 3"),
        ({"form": "frames", "features": []}, "at least one layer"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, words):
    settings = {"form": "frames", "features": [noise(4, 4, 5)], "frames": 2, "levels": 1} | changes
    with pytest.raises(SettingsError, match=words):
        temporal_loss(**settings)


def test_tokens_move_along_flow():
    """Flow of a whole token to the right and down; the last row and column leave the picture."""
    flow = torch.zeros(1, 2, 32, 48)
    flow[:, 0], flow[:, 1] = 8.0, 8.0
    visible = torch.ones(1, 1, 32, 48, dtype=torch.bool)
    motion = along_flow(flow, visible, (4, 6))
    one = noise(1, 4, 6, 3, dtype=torch.float32)
    following = one.roll((1, 1), (1, 2)).flatten(1, 2)
    assert_close(motion.shares.sum(-1), torch.ones(1, 24))
    sure = motion.sure.view(4, 6)
    assert sure[:3, :5].eq(1).all()
    assert sure[3].eq(0).all()
    assert sure[:, 5].eq(0).all()
    followed = motion.follow(following).view(1, 4, 6, 3)
    assert_close(followed[:, :3, :5], one[:, :3, :5])


def test_hidden_pixels_do_not_sway_where_a_token_goes():
    flow, visible = torch.zeros(1, 2, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    flow[:, 0, :, :4], visible[..., :4] = 100.0, False
    motion = along_flow(flow, visible, (2, 2))
    assert motion.sure.tolist() == [[0.5, 1, 0.5, 1]]
    tokens = noise(1, 4, 3, dtype=torch.float32)
    assert_close(motion.follow(tokens), tokens)


def test_between_tokens_motion_is_shared():
    flow = torch.zeros(1, 2, 8, 16)
    flow[:, 0] = 2.0  # a quarter of a token
    motion = along_flow(flow, torch.ones(1, 1, 8, 16, dtype=torch.bool), (1, 2))
    tokens = torch.tensor([[[0.0], [1.0]]])
    assert motion.follow(tokens).flatten().tolist() == pytest.approx([0.25, 1.0])


def test_resemblance_finds_what_moved():
    source = moved_tokens(2, 3).float()
    motion = by_resemblance(source[:1], source[1:])
    assert motion.sure.eq(1).all()
    assert torch.equal(motion.follow(source[1:]), source[:1])
    alike = torch.ones(1, 4, 2)  # no token is its neighbour's only likeness
    assert by_resemblance(alike, alike).sure.tolist() == [[1, 0, 0, 0]]


def test_grids_of_layers():
    assert grid_of(64, (8, 8)) == (8, 8)
    assert grid_of(12, (5, 8)) == (3, 4)  # odd sides are rounded up
    assert grid_of(4, (5, 8)) == (2, 2)
    with pytest.raises(ValueError, match="no level"):
        grid_of(50, (8, 8))
