"""Edit-friendly DDPM inversion: sampling with the recorded noise returns to the clip by construction."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler

from closeness import assert_close
from diffusion.test_schedule import STABLE_DIFFUSION
from evenreel.diffusion import ddim
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import WeightsError
from evenreel.inversions import ddpm

SCHEDULE = NoiseSchedule.from_config(STABLE_DIFFUSION)
ENDS_CLEAN = NoiseSchedule.from_config(STABLE_DIFFUSION | {"set_alpha_to_one": True})
SHAPE = (5, 4, 8, 8)


def random_latents(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def predict_noise(latents, timestep):
    """Neither right nor smooth: nothing is asked of the model. Rounded alike at every place of a tensor."""
    return (7 * latents).frac() + timestep / 1000


def inverted(latents, timesteps, schedule=SCHEDULE, predict=predict_noise, **options):
    shape = tuple(latents.shape)
    trajectory, added = Trajectory(timesteps, shape), Trajectory(timesteps, shape)
    run = ddpm.record(trajectory, added, latents, predict, schedule, **({"seed": 0} | options))
    assert list(run)[-1] == len(latents) * len(timesteps)
    return trajectory, added


def sampled(trajectory, added, schedule=SCHEDULE, predict=predict_noise, added_noise=None):
    timesteps = trajectory.timesteps
    run = sample(
        trajectory.read(timesteps[0]),
        lambda latents, _, timestep: predict(latents, timestep),
        schedule,
        timesteps,
        added_noise=added_noise or added.read,
    )
    return dict(run)


@pytest.mark.parametrize("schedule", [SCHEDULE, ENDS_CLEAN], ids=["noise at the end", "clean at the end"])
@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("skipped", [0, 4])
def test_sampling_returns_to_the_clip(schedule, shared_noise, seed, skipped):
    clip, timesteps = random_latents(), SCHEDULE.timesteps(10)[skipped:]
    recorded = inverted(clip, timesteps, schedule, seed=seed, shared_noise=shared_noise)
    visited = sampled(*recorded, schedule)
    assert_close(visited[timesteps[-1]], clip)
    # and on the way it is where the inversion was, bit for bit
    for timestep, below in pairwise(timesteps):
        assert torch.equal(visited[timestep], recorded[0].read(below))


def test_other_predictions_or_other_noise_make_something_else():
    clip, timesteps = random_latents(), SCHEDULE.timesteps(10)
    recorded = inverted(clip, timesteps)
    without = sampled(*recorded, added_noise=lambda _: torch.zeros(SHAPE))
    other = sampled(*recorded, predict=lambda x, t: predict_noise(x, t) + 0.1)
    for changed in (without, other):
        assert (changed[timesteps[-1]] - clip).square().mean().sqrt() > 0.05


def test_levels_are_drawn_independently():
    """The noise in the clip at one level says nothing about that at the next; on a diffusion path it would."""
    clip, timesteps = random_latents(), SCHEDULE.timesteps(10)
    trajectory, _ = inverted(clip, timesteps, shared_noise=False)
    noise = [
        ddim.to_noise(clip, trajectory.read(timestep), SCHEDULE.alpha(timestep), "sample").flatten()
        for timestep in timesteps
    ]
    correlations = torch.corrcoef(torch.stack(noise)) - torch.eye(10)
    assert correlations.abs().max() < 4 / len(noise[0]) ** 0.5
    assert [float(one.std()) for one in noise] == pytest.approx([1.0] * 10, abs=0.1)


def test_frames_share_their_noise_or_not():
    still = random_latents()[:1].expand(SHAPE).clone()
    for shared_noise in (True, False):
        trajectory, added = inverted(still, SCHEDULE.timesteps(4), shared_noise=shared_noise)
        for timestep in trajectory.timesteps:
            for recorded in (trajectory.read(timestep), added.read(timestep)):
                assert torch.equal(recorded, recorded[:1].expand_as(recorded)) == shared_noise


@pytest.mark.parametrize("shared_noise", [True, False])
def test_windows_of_frames_change_nothing(shared_noise):
    clip, timesteps = random_latents(), SCHEDULE.timesteps(5)
    whole = inverted(clip, timesteps, shared_noise=shared_noise, batch=5)
    for batch in (1, 2, 100):
        parts = inverted(clip, timesteps, shared_noise=shared_noise, batch=batch)
        for one, other in zip(whole, parts, strict=True):
            assert all(torch.equal(one.read(timestep), other.read(timestep)) for timestep in timesteps)


def test_noise_follows_from_the_seed():
    clip, timesteps = random_latents(), SCHEDULE.timesteps(3)
    torch.manual_seed(1)
    first, _ = inverted(clip, timesteps, seed=3)
    torch.manual_seed(2)  # the global generator must not matter
    again, _ = inverted(clip, timesteps, seed=3)
    other, _ = inverted(clip, timesteps, seed=4)
    assert torch.equal(first.read(timesteps[0]), again.read(timesteps[0]))
    assert not torch.equal(first.read(timesteps[0]), other.read(timesteps[0]))


def test_steps_are_those_of_diffusers():
    theirs = DDIMScheduler(**STABLE_DIFFUSION)
    theirs.set_timesteps(20)
    timesteps = SCHEDULE.timesteps(20)
    for index, timestep in enumerate(timesteps):
        latents, noise_pred, noise = (random_latents(index + offset) for offset in (0, 100, 200))
        alpha = SCHEDULE.alpha(timestep)
        below = SCHEDULE.alpha(timesteps[index + 1] if index < 19 else -1)
        sigma = ((1 - below) / (1 - alpha) * (1 - alpha / below)) ** 0.5
        ours = ddim.stochastic_mean(latents, noise_pred, alpha, below) + sigma * noise
        expected = theirs.step(noise_pred, timestep, latents, eta=1.0, variance_noise=noise).prev_sample
        assert_close(ours, expected)


def test_a_model_that_breaks_is_caught_where_it_breaks():
    timesteps = SCHEDULE.timesteps(4)
    with pytest.raises(WeightsError, match=f"timestep {timesteps[0]};"):
        inverted(random_latents(), timesteps, predict=lambda x, t: x * float("nan"))
