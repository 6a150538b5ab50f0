"""Edges: one pixel wide, where they belong, and joined up."""

import pytest
import torch

from evenreel.errors import SettingsError
from evenreel.ops.edges import canny
from evenreel.world import Motion, Scene, SceneObject, render


def picture(plane):
    return plane.float().expand(3, -1, -1)[None]


def disc(size=64, radius=20.0):
    y, x = torch.meshgrid(
        torch.arange(size) - size / 2 + 0.5, torch.arange(size) - size / 2 + 0.5, indexing="ij"
    )
    return ((radius - (x**2 + y**2).sqrt()).clamp(-0.5, 0.5) + 0.5), (x**2 + y**2).sqrt()


@pytest.mark.parametrize("column", [1, 7, 30])
def test_a_step_is_one_line_where_it_is(column):
    plane = torch.zeros(20, 32)
    plane[:, column:] = 1.0
    edges = canny(picture(plane))[0]
    assert edges.sum(1).tolist() == [1] * 20
    assert edges.nonzero()[:, 1].unique().tolist()[0] in (column - 1, column)


def test_nothing_where_nothing_is():
    assert not canny(torch.full((2, 3, 16, 16), 0.5)).any()
    ramp = torch.linspace(0, 1, 128).expand(16, 128)  # 2 levels a pixel, 16 by Sobel's measure
    assert not canny(picture(ramp)).any()


def test_a_disc_has_one_closed_thin_outline():
    plane, distance = disc()
    edges = canny(picture(plane))[0]
    assert (distance[edges] - 20).abs().max() < 1.5
    # Between those of a digital circle whose pixels may touch by corners (8 r / sqrt(2)) and by sides only (8 r).
    assert 8 * 20 / 2**0.5 <= edges.sum() <= 8 * 20
    assert not (edges[1:, 1:] & edges[1:, :-1] & edges[:-1, 1:] & edges[:-1, :-1]).any()
    # Closed: from the centre one does not get out, not even diagonally through the corners of a thick line.
    inside = torch.zeros_like(edges)
    inside[32, 32] = True
    for _ in range(64):
        grown = inside.clone()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            grown |= inside.roll(shift, axis)
        inside = grown & ~edges
    assert not inside[0].any()
    assert not inside[:, 0].any()


def test_weak_edges_count_only_where_strong_ones_lead():
    plane = torch.zeros(40, 64)
    plane[:, 16:] = torch.linspace(0.1, 1.0, 40)[:, None]  # a line that grows from weak to strong
    plane[:, 48:] += torch.where(torch.arange(40) < 12, 0.12, 0.0)[:, None]  # a weak line alone
    strongest = canny(picture(plane), low=200.0, high=200.0)[0]
    both = canny(picture(plane), low=100.0, high=200.0)[0]
    weakest = canny(picture(plane), low=100.0, high=100.0)[0]
    assert strongest[:, :32].sum() < both[:, :32].sum() == weakest[:, :32].sum()
    assert not both[:8, 44:52].any()
    assert weakest[:8, 44:52].any()
    assert (strongest <= both).all()
    assert (both <= weakest).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_picture_turns_the_edges(turns):
    plane, _ = disc(48, 14.3)
    plane = plane + torch.nn.functional.pad(torch.ones(10, 17), (3, 28, 5, 33)) * 0.7
    there = canny(picture(plane))[0]
    back = canny(picture(plane.rot90(turns)))[0].rot90(-turns)
    # Of two equal neighbours the later one is dropped, so a line may move by a pixel, and no more.
    near = torch.nn.functional.max_pool2d(there[None].float(), 3, stride=1, padding=1)[0].bool()
    assert (back & ~near).sum() == 0
    assert back.sum() == pytest.approx(int(there.sum()), rel=0.1)


def test_blur_takes_noise_away_and_leaves_the_outline():
    plane, distance = disc()
    noisy = plane + 0.2 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    rough, smooth = (canny(picture(noisy), sigma=sigma)[0] for sigma in (0.0, 1.5))
    off = (distance - 20).abs() > 3
    assert (rough & off).sum() > 10 * (smooth & off).sum()
    assert (smooth & ~off).sum() > 80


def test_frames_are_independent_and_all_types_do():
    plane, _ = disc()
    frames = torch.cat([picture(plane), picture(plane.flip(1) * 0), picture(1 - plane)])
    edges = canny(frames)
    assert torch.equal(edges[0], canny(frames[:1])[0])
    assert not edges[1].any()
    assert torch.equal(edges, canny(frames.double()))


def test_edges_of_the_world_are_those_of_its_masks():
    thing = SceneObject(
        shape="circle", colour="red", radius=0.6, motion=Motion(kind="sliding", start=(0.0, 0.0))
    )
    clip = render(Scene(background="snow", objects=(thing,), seed=3), range(2))
    edges, outlines = canny(clip.frames), canny(clip.masks.float().expand(-1, 3, -1, -1))
    near = torch.nn.functional.max_pool2d(edges.float(), 7, stride=1, padding=3).bool()
    assert (outlines & near).sum() >= 0.95 * outlines.sum()


@pytest.mark.parametrize(
    "wrong", [{"low": 5.0, "high": 4.0}, {"low": -1.0}, {"sigma": -1.0}, {"low": float("nan")}]
)
def test_thresholds_out_of_order_are_refused(wrong):
    with pytest.raises(SettingsError, match="canny needs"):
        canny(torch.zeros(1, 3, 8, 8), **wrong)
