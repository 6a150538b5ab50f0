"""FlowEdit: computed as an inversion, it is what the paper computes without one."""

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from closeness import assert_close
from evenreel.diffusion import ddim
from evenreel.diffusion.sampling import sample
from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.inversions.base import SourceClip, create_inversion
from evenreel.progress import silent
from evenreel.random import generator
from evenreel.settings import EditSettings
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch
from hosts.jobs import Around, random_latents
from inversions.test_inversions import source_of


def created(**options):
    return create_inversion(EditSettings(prompt="x", inversion="flow-edit", inversion_options=options))


def edits(source: SourceClip, predict, **options):
    """An edit whose predictions are `predict(latents, timestep)`."""
    with created(**options).inverted(source) as found:
        run = sample(
            found.trajectory.read(found.timesteps[0]),
            lambda latents, _, timestep: predict(latents, timestep),
            source.backbone.schedule,
            found.timesteps,
            added_noise=found.noise_on(source.latents.device),
            eta=found.eta,
        )
        *_, (_, clean) = run
    return clean


def of_edit(backbone, latents, timestep):
    """Neither right nor smooth."""
    return (3 * latents).sin() + timestep / 1000


@pytest.mark.parametrize("shared_noise", [True, False])
@torch.inference_mode()
def test_it_is_the_paper_s(shared_noise, tiny):
    """Its algorithm 1 in the latents of a diffusion model: s is the noise of latents that keep the clip's size."""
    source = source_of(tiny, frames=3, steps=6)
    schedule, clip = tiny.schedule, source.latents
    levels = [*map(schedule.alpha, source.timesteps), schedule.final_alpha_cumprod]
    edit = clip
    for timestep, (alpha, below) in zip(source.timesteps, pairwise(levels), strict=True):
        frames = range(1) if shared_noise else range(len(clip))
        noise = torch.stack(
            [
                torch.randn(clip.shape[1:], generator=generator(source.seed, timestep, frame))
                for frame in frames
            ]
        )
        noisy = ddim.add_noise(clip, noise.to(clip), alpha)
        difference = of_edit(tiny, noisy + alpha**0.5 * (edit - clip), timestep) - source.predict_noise(
            noisy, timestep
        )
        edit = edit + ((1 / below - 1) ** 0.5 - (1 / alpha - 1) ** 0.5) * difference
    ours = edits(source, partial(of_edit, tiny), shared_noise=shared_noise, antithetic=False)
    # Where the last step ends a little short of no noise, latents are smaller by so much: so is the difference.
    assert_close(ours, clip + levels[-1] ** 0.5 * (edit - clip))


@pytest.mark.parametrize("skip", [0.0, 0.5])
@torch.inference_mode()
def test_prompts_that_agree_leave_the_clip(skip, tiny):
    source = source_of(tiny, frames=3, steps=6)
    assert_close(edits(source, source.predict_noise, skip=skip), source.latents)


def test_guidance_of_the_source_is_left_out_at_one(tiny):
    sizes = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            sizes.append(len(latents))
            return tiny.predict_noise(latents, timestep, embeds)

    for guidance_scale, rows in ((1.0, 3), (2.0, 6)):
        sizes.clear()
        with created(guidance_scale=guidance_scale).inverted(source_of(Watches(tiny), frames=3, steps=2)):
            pass
        assert set(sizes) == {rows}


def test_all_steps_cannot_be_left_out():
    with pytest.raises(SettingsError, match=r"flow-edit\.skip must be from 0 to less than 1, got 1\.0"):
        created(skip=1.0)


@pytest.mark.parametrize("moving", [True, False])
@torch.inference_mode()
def test_frames_have_noise_of_their_own_where_motion_modules_make_them_agree(moving, tiny):
    switch = SimpleNamespace(frames=1, is_on=False)
    timesteps = tiny.schedule.timesteps(2)
    motion = MotionWindows(switch=switch, most=32, timesteps=timesteps) if moving else None
    still = random_latents(1).expand(3, -1, -1, -1)
    source = source_of(tiny, latents=still, steps=2, motion=motion)
    with created().inverted(source) as usual:
        noisy = usual.trajectory.read(timesteps[0])
    assert torch.equal(noisy[0], noisy[1]) != moving
    with created(shared_noise=not moving).inverted(source) as told:
        assert torch.equal(told.trajectory.read(timesteps[0]), noisy)
    with created(shared_noise=moving).inverted(source) as other:
        assert not torch.equal(other.trajectory.read(timesteps[0]), noisy)


@pytest.mark.parametrize("skip", [0.0, 0.4])
@torch.inference_mode()
def test_every_second_step_takes_the_opposite_of_the_noise_before(skip, tiny):
    source = source_of(tiny, frames=2, steps=5)
    noise = []
    with created(antithetic=True, skip=skip).inverted(source) as found:
        for timestep in found.timesteps:
            alpha = tiny.schedule.alpha(timestep)
            noise.append((found.trajectory.read(timestep) - alpha**0.5 * source.latents) / (1 - alpha) ** 0.5)
    for index in range(1, len(noise)):
        if index % 2:
            assert_close(noise[index], -noise[index - 1])
        else:
            assert (noise[index] + noise[index - 1]).abs().max() > 0.5


HOSTS = ("frame", "tokenflow", "vid2vid_zero", "vidtome", "text2video_zero")


def edited(backbone, latents, **told):
    settings = EditSettings(**{"prompt": "a red ball", "motion": "off", "steps": 4, "batch": 2, **told})
    host = create_host(settings.host)
    return Pipeline(backbone, host, settings, silent, Stopwatch(backbone.device)).edit(latents)


@pytest.mark.parametrize("host", HOSTS)
@torch.inference_mode()
def test_where_prompts_agree_every_host_leaves_the_clip(host, tiny):
    latents = random_latents(4)
    told = {"host": host, "source_prompt": "a red ball", "guidance_scale": 1.0}
    assert_close(edited(tiny, latents, **told), latents)


@torch.inference_mode()
def test_the_source_beside_the_edit_is_the_source_by_itself(tiny):
    """In a host that changes nothing for the source: only what is computed together differs."""
    latents = random_latents(4)
    ways = [
        edited(
            tiny,
            latents,
            host="frame",
            source_prompt="a blue cube",
            guidance_scale=3.0,
            inversion_options={"beside": beside},
        )
        for beside in (True, False)
    ]
    assert_close(*ways)
    assert (ways[0] - latents).abs().max() > 0.1


@torch.inference_mode()
def test_beside_the_edit_no_call_is_made_before_it(tiny):
    rows = []

    class Watches(Around):
        def predict_noise(self, latents, *args, **kwargs):
            rows.append(len(latents))
            return tiny.predict_noise(latents, *args, **kwargs)

    edited(Watches(tiny), random_latents(2), host="frame", source_prompt="a blue cube")
    assert rows == [6] * 4
