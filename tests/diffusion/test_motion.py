"""Shifts of latents by whole cells, and the way back to more noise."""

import pytest
import torch

from evenreel.diffusion.ddim import add_noise
from evenreel.diffusion.motion import (
    alpha_between,
    same_layout,
    shift_in_cells,
    shifted,
    source_cells,
)
from evenreel.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config(
    {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
)


def latents(frames=2, height=6, width=10):
    return torch.randn(frames, 4, height, width, generator=torch.Generator().manual_seed(0))


def test_no_shift_is_no_change():
    assert torch.equal(shifted(latents(), [(0.0, 0.0), (0.0, 0.0)]), latents())


def test_content_goes_up_and_left():
    moved = shifted(latents(1), [(2.0, 3.0)])
    assert torch.equal(moved[:, :, :-2, :-3], latents(1)[:, :, 2:, 3:])


def test_edges_are_mirrors():
    moved = shifted(latents(1), [(2.0, -1.0)])
    assert torch.equal(moved[:, :, -2:, 1:], latents(1)[:, :, -2:].flip(2)[:, :, :, :-1])
    assert torch.equal(moved[:, :, :-2, 0], latents(1)[:, :, 2:, 0])


@pytest.mark.parametrize("cells", [1, 2, 7])
def test_mirrors_repeat_after_two_lengths(cells):
    for shift in (-3.0 * cells, 5.0, 0.3):
        assert torch.equal(source_cells(cells, shift), source_cells(cells, shift + 2 * cells))
    assert torch.equal(source_cells(cells, float(cells)), torch.arange(cells).flip(0))


def test_shifts_between_cells_move_all_cells_alike():
    for shift in (0.5, 1.5, -0.5, 2.25):
        steps = source_cells(100, shift)[10:90] - torch.arange(10, 90)
        assert len(steps.unique()) == 1
        assert abs(steps[0] - shift) <= 0.5


def test_frames_move_each_by_their_own_shift():
    both = shifted(latents(), [(1.0, 2.0), (-3.0, 0.4)])
    for frame, shift in enumerate([(1.0, 2.0), (-3.0, 0.4)]):
        assert torch.equal(both[frame], shifted(latents()[frame : frame + 1], [shift])[0])


def test_no_frames_are_no_frames():
    assert shifted(latents()[:0], []).shape == (0, 4, 6, 10)


def test_motion_is_the_same_share_of_a_picture_of_any_size():
    assert shift_in_cells(12.0, 64) == 1.5
    assert shift_in_cells(12.0, 16) == 1.5 / 4


def test_noise_adds_up():
    there = alpha_between(SCHEDULE, 401, 501) * alpha_between(SCHEDULE, 501, 701)
    assert there == pytest.approx(alpha_between(SCHEDULE, 401, 701))
    assert alpha_between(SCHEDULE, 401, 401) == 1
    assert SCHEDULE.alpha(401) * alpha_between(SCHEDULE, 401, 701) == pytest.approx(SCHEDULE.alpha(701))


def test_variance_is_kept():
    noise = torch.randn(1, 4, 200, 200, generator=torch.Generator().manual_seed(1))
    thrown = add_noise(latents(1, 200, 200), noise, 0.3)
    assert thrown.var().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(add_noise(latents(), latents() * 0, 1.0), latents())


def test_small_pictures_settle_at_lower_noise():
    for timestep in (1, 881, 941):
        assert same_layout(SCHEDULE, timestep, 64) == timestep
    levels = [same_layout(SCHEDULE, 881, cells) for cells in (8, 16, 32, 64, 96)]
    assert levels == sorted(set(levels))
    # The mean over the cells of a picture has the same noise: a quarter of the side, a 16th of the variance ratio.
    signal = [alpha / (1 - alpha) for alpha in (SCHEDULE.alpha(881), SCHEDULE.alpha(levels[1]))]
    assert signal[1] / signal[0] == pytest.approx(16, rel=0.01)
