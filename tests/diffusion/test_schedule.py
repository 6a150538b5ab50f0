from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from closeness import assert_close
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
    assert_close(torch.tensor(ours.alphas_cumprod), theirs.alphas_cumprod)
    assert ours.final_alpha_cumprod == pytest.approx(float(theirs.final_alpha_cumprod), rel=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 7, 10, 25, 30, 50, 60, 100, 125, 130, 333, 500, 999])
def test_timesteps_are_those_of_diffusers(steps):
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION)
    sampling, inverse = DDIMScheduler(**STABLE_DIFFUSION), DDIMInverseScheduler(**STABLE_DIFFUSION)
    sampling.set_timesteps(steps)
    inverse.set_timesteps(steps)
    assert schedule.timesteps(steps) == tuple(sampling.timesteps.tolist())
    assert schedule.timesteps(steps)[::-1] == tuple(inverse.timesteps.tolist())


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 3, 7, 24, 50, 150, 334, 501, 600, 999, 1000])
def test_other_spacings_are_those_of_diffusers(spacing, steps):
    config = {**STABLE_DIFFUSION, "timestep_spacing": spacing}
    theirs = DDIMScheduler(**config)
    theirs.set_timesteps(steps)
    assert NoiseSchedule.from_config(config).timesteps(steps) == tuple(theirs.timesteps.tolist())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("trained", [100, 1000])
def test_every_count_begins_near_noise_and_ends_near_the_clip(spacing, offset, trained):
    schedule = NoiseSchedule.from_config(
        {"num_train_timesteps": trained, "timestep_spacing": spacing, "steps_offset": offset}
    )
    for steps in range(1, trained + 1):
        timesteps = schedule.timesteps(steps)
        assert len(timesteps) == len(set(timesteps)) == steps
        assert timesteps == tuple(sorted(timesteps, reverse=True))
        # a leading run leaves one step out, which is more than a tenth below ten steps
        assert timesteps[0] >= trained - max(trained / 10, 2 * (trained // steps) if steps > 1 else 0)
        assert timesteps[0] < trained
        assert 0 <= timesteps[-1] <= (trained // steps if steps > 1 else trained)


def test_as_many_steps_as_were_trained_stay_inside_the_schedule():
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION)
    assert schedule.timesteps(1000) == tuple(range(999, -1, -1))


def test_zero_terminal_signal_is_that_of_diffusers_but_for_the_last_level():
    config = STABLE_DIFFUSION | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    theirs, ours = DDIMScheduler(**config).alphas_cumprod, NoiseSchedule.from_config(config).alphas_cumprod
    assert torch.tensor(ours).sub(theirs)[:-1].abs().max() <= 1e-6
    assert (float(theirs[-1]), ours[-1]) == (0, 2.0**-24)


@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(SettingsError, match=f"got {steps}"):
        NoiseSchedule.from_config(STABLE_DIFFUSION).timesteps(steps)


@pytest.mark.parametrize(
    "config",
    [
        {"timestep_spacing": "random"},
        {"beta_schedule": "wiggly"},
        {"prediction_type": "mood"},
        {"timestep_spacing": "wide"},
    ],
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
