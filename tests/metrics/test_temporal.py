"""Measures of consistency against the world, where motion and visibility are exact."""

import pytest
import torch

from evenreel.metrics.flow import KnownFlow
from evenreel.metrics.temporal import Flicker, flicker, warp_error
from evenreel.ops.warp import visible_by_depth, visible_by_return
from evenreel.world import HELD_OUT, random_scene, render
from metrics.measuring import figure, value


@pytest.fixture(scope="module", params=[0, 3, 8])
def clip(request):
    return render(random_scene(HELD_OUT + request.param, objects=2), range(5), 128)


def visible(clip):
    return visible_by_depth(clip.depth, clip.flow[:-1])


def test_a_true_clip_has_almost_no_warp_error(clip):
    seen = visible(clip)
    assert seen.float().mean() > 0.5
    true = warp_error(clip.frames, clip.flow[:-1], seen)
    assert true < 2e-3
    flickering = clip.frames * torch.tensor([1.0, 0.8, 1.0, 0.8, 1.0]).view(5, 1, 1, 1)
    assert warp_error(flickering, clip.flow[:-1], seen) > 3 * true + 1e-3


def test_what_gets_covered_does_not_count(clip):
    """Outside the visible places the true clip disagrees with itself more than inside."""
    seen = visible(clip)
    everywhere = warp_error(clip.frames, clip.flow[:-1], torch.ones_like(seen))
    assert warp_error(clip.frames, clip.flow[:-1], seen) <= everywhere


def test_the_wrong_motion_is_seen(clip):
    seen = visible(clip)
    still = torch.zeros_like(clip.flow[:-1])
    assert warp_error(clip.frames, still, seen) > warp_error(clip.frames, clip.flow[:-1], seen)


def test_flow_that_returns_is_visible_and_flow_that_does_not_is_not():
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2.0
    assert visible_by_return(flow, -flow)[0, 0, :, :6].all()
    assert not visible_by_return(flow, -flow)[0, 0, :, 6:].any()  # leaves the picture
    assert not visible_by_return(flow, 2 * flow).any()


def test_flicker_looks_at_still_places_only():
    frames = torch.zeros(2, 3, 4, 4)
    frames[1, :, :, :2] = 0.5
    flow, seen = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert flicker(frames, flow, seen) == pytest.approx(0.25)
    flow[:, 0, :, :2] = 3.0
    assert flicker(frames, flow, seen) == 0.0


def test_nothing_to_measure_is_none():
    one = torch.zeros(1, 3, 4, 4)
    empty = torch.zeros(0, 2, 4, 4)
    assert warp_error(one, empty, torch.zeros(0, 1, 4, 4, dtype=torch.bool)) is None
    flow = torch.full((1, 2, 4, 4), 9.0)
    assert flicker(one.expand(2, -1, -1, -1), flow, torch.ones(1, 1, 4, 4, dtype=torch.bool)) is None


def test_flicker_of_a_few_places_is_none():
    """Where only some dozens of pixels stand still, they do not speak for the clip."""
    frames, flow = torch.zeros(2, 3, 20, 20), torch.full((1, 2, 20, 20), 9.0)
    frames[1] = 0.25
    seen = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    flow[:, :, 0, :19] = 0.0
    assert flicker(frames, flow, seen) is None
    assert "4.75% of the source" in figure(Flicker, frames, frames, flow=KnownFlow(flow, seen)).unavailable
    flow[:, :, 0, 19] = 0.0
    assert flicker(frames, flow, seen) == pytest.approx(0.25)
    assert value(Flicker, frames, frames, flow=KnownFlow(flow, seen)) == pytest.approx(0.25)
