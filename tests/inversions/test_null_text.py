"""Null-text optimisation on a model small enough to be understood: its noise follows from the prompt alone."""

from itertools import pairwise

import pytest
import torch

from closeness import assert_close
from evenreel.diffusion import guidance
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError, WeightsError
from evenreel.inversions.null_text import optimise

SCHEDULE = NoiseSchedule.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
)
SCALE = 3.0
COND, NULL = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64)


def predict_noise(latents, timestep, embeds):
    """One number for each half of the channels. Such noise inverts exactly, where there is no guidance."""
    shift = embeds.mean(1).repeat_interleave(2, dim=1)[:, :, None, None]
    return torch.zeros_like(latents) + shift * (1 + timestep / 1000)


def clip(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 4, 3, 5, generator=generator, dtype=torch.float64)


def inverted(clean, steps):
    timesteps = SCHEDULE.timesteps(steps)
    run = invert(clean, lambda x, t: predict_noise(x, t, COND), SCHEDULE, timesteps)
    return timesteps, Trajectory.of(dict(run))


def found_for(clean, steps=10, **changes):
    timesteps, trajectory = inverted(clean, steps)
    settings = {"prompt_embeds": COND, "null_embeds": NULL, "guidance_scale": SCALE} | changes
    return list(optimise(trajectory, clean, predict_noise, SCHEDULE, timesteps, **settings))


def guided(clean, steps, null_embeds):
    """The clip after guided sampling from its inversion."""
    timesteps, trajectory = inverted(clean, steps)

    def predict(latents, _, timestep):
        uncond = predict_noise(latents, timestep, null_embeds.get(timestep, NULL))
        return guidance.combine(uncond, predict_noise(latents, timestep, COND), SCALE)

    *_, (_, latents) = sample(trajectory.read(timesteps[0]), predict, SCHEDULE, timesteps)
    return latents


def test_guided_sampling_returns_to_the_clip():
    clean = clip(3)
    found = found_for(clean, inner_steps=100, learning_rate=0.1)
    rebuilt = guided(clean, 10, {one.timestep: one.embeds for one in found})
    # The loss tolerates an error of a few hundredths, which comes to rest there.
    assert (rebuilt - clean).square().mean().sqrt() < 0.04
    assert (guided(clean, 10, {}) - clean).square().mean().sqrt() > 0.3
    assert_close(found[-1].latents, rebuilt)


def test_every_timestep_gets_one_embedding_for_all_frames():
    found = found_for(clip(5), steps=4)
    assert tuple(one.timestep for one in found) == SCHEDULE.timesteps(4)
    assert all(one.embeds.shape == (1, 1, 2) and not one.embeds.requires_grad for one in found)


def test_windows_of_frames_change_nothing():
    """But memory: the gradient is that of all frames, whatever passes together."""
    clean, per_frame = clip(5), COND.expand(5, -1, -1)
    whole = found_for(clean, inner_steps=3)
    for windows in (found_for(clean, inner_steps=3, batch=2), found_for(clean, inner_steps=3, batch=1)):
        for one, other in zip(whole, windows, strict=True):
            assert_close(one.embeds, other.embeds)
            assert one.losses == pytest.approx(other.losses)
    for one, other in zip(
        whole, found_for(clean, inner_steps=3, batch=2, prompt_embeds=per_frame), strict=True
    ):
        assert_close(one.embeds, other.embeds)


def test_the_network_never_differentiates_more_frames_than_the_batch():
    sizes = set()

    def watched(latents, timestep, embeds):
        sizes.add(len(latents))
        return predict_noise(latents, timestep, embeds)

    timesteps, trajectory = inverted(clip(7), 2)
    settings = {"prompt_embeds": COND, "null_embeds": NULL, "guidance_scale": SCALE, "batch": 3}
    list(optimise(trajectory, clip(7), watched, SCHEDULE, timesteps, **settings))
    assert sizes == {3, 1}


def test_updates_stop_when_the_clip_is_met():
    """With the prompt itself in the place of the empty one, guidance changes nothing."""
    assert all(len(one.losses) == 1 for one in found_for(clip(2), null_embeds=COND))
    found = found_for(clip(2), inner_steps=10)
    assert max(len(one.losses) for one in found) == 10
    for index, one in enumerate(found):
        tolerance = 1e-5 + 2e-5 * 5 * index  # ten steps for fifty
        assert all(loss >= tolerance for loss in one.losses[:-1])


def test_the_pace_of_the_decay_is_that_of_fifty_steps():
    """In a run of 50 steps both ways of counting agree; in a shorter one the published decays less."""
    clean = clip(1)
    both = [found_for(clean, steps=50, inner_steps=1, published=published) for published in (False, True)]
    assert all(torch.equal(a.embeds, b.embeds) for a, b in zip(*both, strict=True))
    shares, index = (
        found_for(clean, steps=5, inner_steps=1, published=published) for published in (False, True)
    )
    # Adam's first update has the size of the learning rate.
    for found, decay in ((shares, 10), (index, 1)):
        moved = [(b.embeds - a.embeds).abs().max().item() for a, b in pairwise(found)]
        assert moved == pytest.approx([0.01 * (1 - decay * i / 100) for i in range(1, 5)], rel=1e-3)


@pytest.mark.parametrize("setting", [{"inner_steps": 0}, {"batch": 0}, {"learning_rate": float("nan")}])
def test_settings_out_of_range_are_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(SettingsError, match=f"{name} must be .*, got {value}"):
        found_for(clip(1), **setting)


def test_a_model_that_breaks_is_an_error():
    timesteps, trajectory = inverted(clip(1), 2)
    settings = {"prompt_embeds": COND, "null_embeds": NULL, "guidance_scale": SCALE}
    broken = optimise(
        trajectory, clip(1), lambda x, t, e: predict_noise(x, t, e) / 0, SCHEDULE, timesteps, **settings
    )
    with pytest.raises(WeightsError, match="NaN or infinity"):
        list(broken)
