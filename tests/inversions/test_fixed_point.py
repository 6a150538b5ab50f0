"""Fixed-point inversion: what sampling makes of it is the clip again, the better the more it iterates."""

from itertools import pairwise
from math import log2

import pytest
import torch

from diffusion.test_convergence import CLEAN, SCHEDULE, best_noise
from evenreel.diffusion import inversion
from evenreel.diffusion.sampling import sample
from evenreel.errors import SettingsError, WeightsError
from evenreel.inversions import fixed_point


def rebuilt(invert, steps, **options):
    """What comes back, with the number of noise predictions it took to invert."""
    timesteps, calls = SCHEDULE.timesteps(steps), 0

    def predict(latents, timestep):
        nonlocal calls
        calls += 1
        return best_noise(latents, timestep)

    *_, (_, noisy) = invert(CLEAN, predict, SCHEDULE, timesteps, **options)
    *_, (_, clean) = sample(noisy, lambda x, _, t: best_noise(x, t), SCHEDULE, timesteps)
    return clean, calls


def error(invert, steps, **options):
    return float((rebuilt(invert, steps, **options)[0] - CLEAN).abs().max())


@pytest.mark.parametrize("iterations", [1, 2])
def test_each_iteration_raises_the_order(iterations):
    """Plain inversion comes back to first order; extrapolation gives another, and so does every prediction."""
    errors = [
        error(fixed_point.invert, steps, iterations=iterations, tolerance=0.0) for steps in (40, 80, 160)
    ]
    for coarse, fine in pairwise(errors):
        assert log2(coarse / fine) == pytest.approx(iterations + 2, abs=0.3)


@pytest.mark.parametrize("steps", [10, 25, 50])
def test_it_loses_far_less_than_plain_inversion(steps):
    errors = [error(fixed_point.invert, steps, iterations=count, tolerance=0.0) for count in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    plain = error(inversion.invert, steps)
    assert errors[0] < plain
    assert errors[1] < plain / 4
    assert errors[3] < 1e-3 * plain


def test_fifty_predictions_beat_five_hundred():
    ours, calls = rebuilt(fixed_point.invert, 25, budget=50, tolerance=5e-4)
    theirs, many = rebuilt(inversion.invert, 500)
    assert calls <= 50
    assert many == 500
    assert (ours - CLEAN).abs().max() < (theirs - CLEAN).abs().max()


def test_one_prediction_of_the_first_step_is_plain_inversion():
    timesteps = SCHEDULE.timesteps(1)
    ((_, plain),) = inversion.invert(CLEAN, best_noise, SCHEDULE, timesteps)
    ((_, first),) = fixed_point.invert(CLEAN, best_noise, SCHEDULE, timesteps, iterations=1)
    assert torch.equal(first, plain)


def counted(predict, **options):
    """Noise predictions for each step of ten."""
    calls = []

    def watched(latents, timestep):
        calls.append(timestep)
        return predict(latents, timestep)

    timesteps = SCHEDULE.timesteps(10)
    run = fixed_point.invert(CLEAN, watched, SCHEDULE, timesteps, **options)
    assert [timestep for timestep, _ in run] == list(reversed(timesteps))
    return [calls.count(timestep) for timestep in reversed(timesteps)]


def test_predictions_are_counted():
    assert counted(best_noise, iterations=3, tolerance=0.0) == [3] * 10
    assert counted(best_noise, iterations=3, tolerance=1e9) == [1] * 10
    # Extrapolated noise is right at once, but for the first step, which has none before it.
    assert counted(lambda x, t: torch.ones_like(x), iterations=3, tolerance=1e-6) == [2] + [1] * 9
    # Steps take what they need of the budget, but leave one for each to come.
    assert counted(best_noise, iterations=4, tolerance=0.0, budget=17) == [4, 4, 2] + [1] * 7
    assert counted(best_noise, iterations=99, tolerance=0.0, budget=10) == [1] * 10
    loose, tight = (
        sum(counted(best_noise, iterations=50, tolerance=tolerance)) for tolerance in (1e-3, 1e-6)
    )
    assert 10 <= loose < tight < 500


def test_frames_rest_by_themselves():
    """A frame's result does not depend on what passes together with it, though some need more iterations."""
    easy, hard = torch.zeros_like(CLEAN), 3 * CLEAN
    clip = torch.cat([easy, hard, CLEAN])
    timesteps = SCHEDULE.timesteps(5)

    def last(latents):
        *_, (_, noisy) = fixed_point.invert(
            latents, best_noise, SCHEDULE, timesteps, iterations=20, budget=15, tolerance=0.01
        )
        return noisy

    assert torch.equal(last(clip), torch.cat([last(frame[None]) for frame in clip]))


def test_frames_at_rest_are_not_predicted_again():
    clip, sizes = torch.cat([torch.zeros_like(CLEAN), CLEAN, 3 * CLEAN]), []

    def predict(latents, timestep):
        sizes.append(len(latents))
        return best_noise(latents, timestep)

    def run(**options):
        sizes.clear()
        list(fixed_point.invert(clip, predict, SCHEDULE, SCHEDULE.timesteps(5), tolerance=0.01, **options))
        return set(sizes)

    assert run() == {3, 2, 1}
    assert run(together=True) == {3}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_that_breaks_is_caught_where_it_breaks(wrong):
    seen = []

    def predict(latents, timestep):
        seen.append(timestep)
        return latents * wrong

    with pytest.raises(WeightsError, match=f"timestep {SCHEDULE.timesteps(4)[-1]};"):
        list(fixed_point.invert(CLEAN, predict, SCHEDULE, SCHEDULE.timesteps(4)))
    assert set(seen) == {SCHEDULE.timesteps(4)[-1]}


@pytest.mark.parametrize(
    "setting", [{"iterations": 0}, {"budget": 1}, {"tolerance": -1.0}, {"tolerance": float("nan")}]
)
def test_settings_out_of_range_are_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(SettingsError, match=f"{name} must be .*, got {value}"):
        list(fixed_point.invert(CLEAN, best_noise, SCHEDULE, SCHEDULE.timesteps(2), **setting))
