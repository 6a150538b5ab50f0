from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from evenreel.diffusion.schedule import NoiseSchedule, refine
from evenreel.errors import SettingsError, WeightsError

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
CONFIGS = [
    STABLE_DIFFUSION,
    {"clip_sample": False},
    {"beta_schedule": "squaredcos_cap_v2", "set_alpha_to_one": False, "clip_sample": False},
    {
        "trained_betas": [0.001 * (i + 1) for i in range(100)],
        "num_train_timesteps": 100,
        "clip_sample": False,
    },
]


@pytest.mark.parametrize("config", CONFIGS)
def test_levels_are_those_of_diffusers(config):
    theirs, ours = DDIMScheduler(**config), NoiseSchedule.from_config(config)
    assert torch.tensor(ours.alphas_cumprod).sub(theirs.alphas_cumprod).abs().max() <= 1e-7
    assert ours.final_alpha_cumprod == pytest.approx(float(theirs.final_alpha_cumprod), abs=1e-7)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 25, 30, 50, 333, 999])
def test_timesteps_are_those_of_diffusers(steps):
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION)
    sampling, inverse = DDIMScheduler(**STABLE_DIFFUSION), DDIMInverseScheduler(**STABLE_DIFFUSION)
    sampling.set_timesteps(steps)
    inverse.set_timesteps(steps)
    assert schedule.timesteps(steps) == tuple(sampling.timesteps.tolist())
    assert schedule.timesteps(steps)[::-1] == tuple(inverse.timesteps.tolist())


def test_as_many_steps_as_were_trained_stay_inside_the_schedule():
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION)
    assert schedule.timesteps(1000) == tuple(range(999, -1, -1))


@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(SettingsError, match=f"got {steps}"):
        NoiseSchedule.from_config(STABLE_DIFFUSION).timesteps(steps)


@pytest.mark.parametrize(
    "config", [{"rescale_betas_zero_snr": True}, {"beta_schedule": "wiggly"}, {"prediction_type": "mood"}]
)
def test_unsupported_schedules_are_refused(config):
    with pytest.raises(WeightsError):
        NoiseSchedule.from_config(config)


@pytest.mark.parametrize("steps", [2, 10, 30])
@pytest.mark.parametrize("factor", [1, 2, 5])
def test_refining_keeps_every_timestep_and_adds_even_ones(steps, factor):
    coarse = NoiseSchedule.from_config(STABLE_DIFFUSION).timesteps(steps)
    fine = refine(coarse, factor)
    assert set(coarse) <= set(fine)
    assert len(fine) == (steps - 1) * factor + 1
    gaps = [upper - lower for upper, lower in pairwise(fine)]
    assert max(gaps) - min(gaps) <= 1
