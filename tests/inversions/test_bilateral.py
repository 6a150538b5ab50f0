import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel.backbones import layers
from evenreel.diffusion import ddim
from evenreel.diffusion.inversion import invert, record
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.inversions.bilateral import BilateralInversion, bilateral_method, features_filtered
from evenreel.settings import read
from hosts.jobs import random_latents
from tiny import SD1, tiny_unet


def predictor(tiny):
    embeds = tiny.embed(["a red ball"])
    return lambda latents, timestep: tiny.predict_noise(latents, timestep, embeds)


def inverted(tiny, latents, settings, steps=4, **options):
    method = bilateral_method(settings, **options)
    with features_filtered(tiny.unet, settings):
        return [x for _, x in method(latents, predictor(tiny), tiny.schedule, tiny.schedule.timesteps(steps))]


@pytest.mark.parametrize("mode", ["latent", "clean", "feature-time"])
def test_steps_outside_the_window_are_those_of_ddim(tiny, mode):
    latents, timesteps = random_latents(3), tiny.schedule.timesteps(4)  # 1, 251, 501, 751
    plain = [x for _, x in invert(latents, predictor(tiny), tiny.schedule, timesteps)]
    late = inverted(tiny, latents, BilateralInversion(mode=mode, start=0.5))
    assert [torch.equal(*pair) for pair in zip(plain, late, strict=True)] == [True, True, False, False]
    narrow = inverted(tiny, latents, BilateralInversion(mode=mode, kernel=1))
    assert all(torch.equal(*pair) for pair in zip(plain, narrow, strict=True))


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("mode", ["latent", "clean", "feature-time"])
def test_any_number_of_frames(tiny, mode, frames):
    latents = inverted(tiny, random_latents(frames), BilateralInversion(mode=mode))[-1]
    assert latents.shape == (frames, 4, 8, 8)
    assert torch.isfinite(latents).all()


def test_what_is_predicted_clean_is_filtered_and_the_noise_is_not(tiny):
    """One step, written out: the clean latents that the prediction implies, filtered, with the same noise again."""
    latents, settings, schedule = random_latents(2), BilateralInversion(mode="clean", kernel=3), tiny.schedule
    (timestep,) = schedule.timesteps(1)
    noise, alpha = predictor(tiny)(latents, timestep), schedule.final_alpha_cumprod
    clean = settings.filter_latents((latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5)
    wanted = schedule.alpha(timestep) ** 0.5 * clean + (1 - schedule.alpha(timestep)) ** 0.5 * noise
    (found,) = inverted(tiny, latents, settings, steps=1)
    assert_close(found, wanted)
    plain = ddim.step(latents, noise, alpha, schedule.alpha(timestep))
    assert_apart(found, plain, by=1e-3)


def test_one_frame_has_no_time_to_be_filtered_along(tiny):
    latents = random_latents(1)
    plain = [x for _, x in invert(latents, predictor(tiny), tiny.schedule, tiny.schedule.timesteps(4))]
    assert torch.equal(inverted(tiny, latents, BilateralInversion(mode="feature-time"))[-1], plain[-1])


def test_branches_do_not_see_each_other(tiny):
    settings, embeds = BilateralInversion(mode="feature-time"), tiny.embed(["a red ball", "a blue cube"])
    ours, theirs = random_latents(3, seed=1), random_latents(3, seed=2)
    with features_filtered(tiny.unet, settings) as state:
        alone = [
            tiny.predict_noise(latents, 401, embeds[row : row + 1])
            for row, latents in enumerate((ours, theirs))
        ]
        state.branches = 2
        together = tiny.predict_noise(torch.cat([ours, theirs]), 401, embeds)
        assert_close(together, torch.cat(alone))
        state.branches = 1  # as published: the last frame of one branch beside the first of the other
        assert_apart(tiny.predict_noise(torch.cat([ours, theirs]), 401, embeds), together)


def test_windows_of_frames_do_not_see_each_other(tiny):
    settings, latents = BilateralInversion(mode="feature-time"), random_latents(5)
    timesteps = tiny.schedule.timesteps(2)
    trajectory = Trajectory(timesteps, tuple(latents.shape))
    with features_filtered(tiny.unet, settings):
        method = bilateral_method(settings)
        for _ in record(
            trajectory, latents, predictor(tiny), tiny.schedule, timesteps, batch=3, method=method
        ):
            pass
    alone = inverted(tiny, latents[3:], settings, steps=2)[-1]
    assert_close(trajectory.read(timesteps[0])[3:], alone)


def test_eta_1_is_the_forward_process(tiny):
    """All noise is drawn, so what the network says does not matter."""
    latents, timesteps = random_latents(2), tiny.schedule.timesteps(4)
    settings = BilateralInversion(kernel=1, eta=1.0)
    ours = inverted(tiny, latents, settings, seed=3)
    nothing = bilateral_method(settings, seed=3)(
        latents, lambda x, _timestep: torch.zeros_like(x), tiny.schedule, timesteps
    )
    for (_, theirs), mine in zip(nothing, ours, strict=True):
        assert_close(theirs, mine)
    many = random_latents(1).expand(400, -1, -1, -1) * 0
    noise = torch.randn(400, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    stepped = ddim.noising_step(many, noise, noise.flip(0), 0.9, 0.4, eta=0.6)
    # Independent shares of variance, less what the latents (none here) lack of the level they come from.
    expected = ((1 - 0.4 - 0.36 * (1 - 0.4 / 0.9)) ** 0.5 - (0.4 * 0.1 / 0.9) ** 0.5) ** 2 + 0.36 * (
        1 - 0.4 / 0.9
    )
    assert float(stepped.var()) == pytest.approx(expected, rel=0.03)


def test_drawn_noise_follows_from_the_seed_and_is_shared_by_frames(tiny):
    latents, settings = random_latents(1).expand(3, -1, -1, -1), BilateralInversion(eta=0.5)
    one, again, other = (inverted(tiny, latents, settings, seed=seed)[-1] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert_apart(one, other, by=0.1)
    assert_close(one, one[:1].expand_as(one))


def test_the_filtered_layers():
    names = layers.last_self_attentions(tiny_unet(**SD1))
    assert [name.split(".transformer")[0] for name in names] == [
        "up_blocks.3.attentions.0",
        "up_blocks.3.attentions.1",
    ]
    sdxl = tiny_unet(
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
    )
    names = layers.last_self_attentions(sdxl)
    assert {name.split(".transformer")[0] for name in names} == {
        "up_blocks.1.attentions.0",
        "up_blocks.1.attentions.1",
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("setting", "value"), [("mode", "time"), ("kernel", 2), ("edge", "wrap"), ("eta", 1.5), ("start", 2.0)]
)
def test_settings_check_themselves(setting, value):
    with pytest.raises(SettingsError, match=rf"(bilateral[. ]{setting}|a window) must be .*{value}"):
        read(BilateralInversion, {setting: value}, "inversion bilateral", within="bilateral.")
