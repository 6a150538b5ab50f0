import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from closeness import assert_close
from diffusion.test_schedule import STABLE_DIFFUSION
from evenreel.diffusion import ddim
from evenreel.diffusion.guidance import combine, split, stack
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import WeightsError

SCHEDULE = NoiseSchedule.from_config(STABLE_DIFFUSION)


def random_latents(seed=0, frames=2):
    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_step_forth_and_back_changes_nothing():
    latents, noise = random_latents(0).double(), random_latents(1).double()
    there = ddim.step(latents, noise, 0.9, 0.2)
    assert_close(ddim.step(there, noise, 0.2, 0.9), latents)


def test_a_step_to_the_same_level_changes_nothing():
    latents, noise = random_latents(0).double(), random_latents(1).double()
    assert_close(ddim.step(latents, noise, 0.5, 0.5), latents)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.99])
def test_every_prediction_type_gives_the_noise(alpha):
    clean, noise = random_latents(0).double(), random_latents(1).double()
    noisy = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
    outputs = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean,
    }
    for prediction_type, output in outputs.items():
        assert_close(ddim.to_noise(output, noisy, alpha, prediction_type), noise)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_steps_are_those_of_diffusers(prediction_type):
    theirs = DDIMScheduler(**STABLE_DIFFUSION, prediction_type=prediction_type)
    theirs.set_timesteps(20)
    timesteps = SCHEDULE.timesteps(20)
    for index, timestep in enumerate(timesteps):
        latents, output = random_latents(index), random_latents(100 + index)
        level = SCHEDULE.alpha(timestep)
        after = SCHEDULE.alpha(timesteps[index + 1] if index < 19 else -1)
        ours = ddim.step(latents, ddim.to_noise(output, latents, level, prediction_type), level, after)
        expected = theirs.step(output, timestep, latents).prev_sample
        assert_close(ours, expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_inverse_steps_are_those_of_diffusers(prediction_type):
    theirs = DDIMInverseScheduler(**STABLE_DIFFUSION, prediction_type=prediction_type)
    theirs.set_timesteps(20)
    level = SCHEDULE.final_alpha_cumprod
    for index, timestep in enumerate(reversed(SCHEDULE.timesteps(20))):
        latents, output = random_latents(index), random_latents(100 + index)
        after = SCHEDULE.alpha(timestep)
        ours = ddim.step(latents, ddim.to_noise(output, latents, level, prediction_type), level, after)
        expected = theirs.step(output, timestep, latents).prev_sample
        assert_close(ours, expected)
        level = after


def test_whole_runs_are_those_of_diffusers():
    # Smooth, and neither constant nor linear.
    def noise_of(x, timestep):
        return torch.tanh(x) * (0.5 + timestep / 2000)

    theirs, inverse = DDIMScheduler(**STABLE_DIFFUSION), DDIMInverseScheduler(**STABLE_DIFFUSION)
    latents = random_latents()
    expected = latents
    inverse.set_timesteps(25)
    for timestep in inverse.timesteps.tolist():
        expected = inverse.step(noise_of(expected, timestep), timestep, expected).prev_sample
    timesteps = SCHEDULE.timesteps(25)
    *_, (last, noisy) = invert(latents, noise_of, SCHEDULE, timesteps)
    assert last == timesteps[0]
    assert_close(noisy, expected)
    theirs.set_timesteps(25)
    for timestep in theirs.timesteps.tolist():
        expected = theirs.step(noise_of(expected, timestep), timestep, expected).prev_sample
    *_, (last, clean) = sample(noisy, lambda x, _, t: noise_of(x, t), SCHEDULE, timesteps)
    assert last == timesteps[-1]
    assert_close(clean, expected)


def test_inversion_and_sampling_cancel_for_a_constant_prediction():
    latents, noise = random_latents(0), random_latents(1)
    timesteps = SCHEDULE.timesteps(20)
    *_, (_, noisy) = invert(latents, lambda x, t: noise, SCHEDULE, timesteps)
    *_, (_, clean) = sample(noisy, lambda x, i, t: noise, SCHEDULE, timesteps)
    assert_close(clean, latents)


def test_loops_say_where_they_are():
    seen = []

    def predict(x, step_index, timestep):
        seen.append((step_index, timestep))
        return torch.zeros_like(x)

    timesteps = SCHEDULE.timesteps(4)
    assert [timestep for timestep, _ in sample(random_latents(), predict, SCHEDULE, timesteps)] == list(
        timesteps
    )
    assert seen == list(enumerate(timesteps))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_that_breaks_is_caught_where_it_breaks(wrong):
    with pytest.raises(WeightsError, match="timestep 751"):
        list(sample(random_latents(), lambda x, i, t: x * wrong, SCHEDULE, SCHEDULE.timesteps(4)))
    with pytest.raises(WeightsError, match="timestep 1;"):
        list(invert(random_latents(), lambda x, t: x * wrong, SCHEDULE, SCHEDULE.timesteps(4)))


def test_guidance():
    uncond, cond = random_latents(0), random_latents(1)
    assert torch.equal(combine(uncond, cond, 0.0), uncond)
    assert_close(combine(uncond, cond, 1.0), cond)
    assert_close(combine(uncond, cond, 2.0), 2 * cond - uncond)
    assert all(
        torch.equal(*pair) for pair in zip(split(stack([uncond, cond]), 2), (uncond, cond), strict=True)
    )
