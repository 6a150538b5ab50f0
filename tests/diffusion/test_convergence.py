"""Order of convergence on Gaussian data, where the best noise prediction is known in closed form."""

from itertools import pairwise
from math import exp, log2

import pytest
import torch

from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.schedule import NoiseSchedule

SPREAD = 0.7
"""Standard deviation of the data."""
TIMES = 6400

# Smooth, and fine enough that the spacing of timesteps is what limits a run: alpha = exp(-(0.1 t + 4.95 t^2)).
ALPHAS = tuple(exp(-(0.1 * t + 4.95 * t * t)) for t in ((i + 1) / TIMES for i in range(TIMES)))
SCHEDULE = NoiseSchedule(alphas_cumprod=ALPHAS, final_alpha_cumprod=1.0)


def best_noise(latents, timestep):
    """E[noise | latents] for data N(0, SPREAD^2)."""
    alpha = SCHEDULE.alpha(timestep)
    return (1 - alpha) ** 0.5 * latents / (alpha * SPREAD**2 + 1 - alpha)


def exact_scale(alpha):
    """The probability flow only scales Gaussian data: its factor from level 1 to level alpha."""
    return (alpha * SPREAD**2 + 1 - alpha) ** 0.5 / SPREAD


CLEAN = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4)


def inversion_error(steps):
    timesteps = SCHEDULE.timesteps(steps)
    *_, (_, noisy) = invert(CLEAN, best_noise, SCHEDULE, timesteps)
    return float((noisy - CLEAN * exact_scale(SCHEDULE.alpha(timesteps[0]))).abs().max())


def sampling_error(steps):
    timesteps = SCHEDULE.timesteps(steps)
    noisy = CLEAN * exact_scale(SCHEDULE.alpha(timesteps[0]))
    *_, (_, clean) = sample(noisy, lambda x, _, t: best_noise(x, t), SCHEDULE, timesteps)
    return float((clean - CLEAN).abs().max())


def round_trip_error(steps):
    timesteps = SCHEDULE.timesteps(steps)
    *_, (_, noisy) = invert(CLEAN, best_noise, SCHEDULE, timesteps)
    *_, (_, clean) = sample(noisy, lambda x, _, t: best_noise(x, t), SCHEDULE, timesteps)
    return float((clean - CLEAN).abs().max())


@pytest.mark.parametrize("error_with", [inversion_error, sampling_error, round_trip_error])
def test_ddim_is_first_order(error_with):
    errors = [error_with(steps) for steps in (50, 100, 200, 400)]
    print(error_with.__name__, errors)
    for coarse, fine in pairwise(errors):
        assert log2(coarse / fine) == pytest.approx(1, abs=0.15)
