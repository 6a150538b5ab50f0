"""What holds for vid2vid_zero besides the laws of all hosts."""

import inspect
from dataclasses import fields, replace

import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel.backbones import Backbone
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.hosts.base import Prompts, inverting
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.vid2vid_zero.host import Vid2VidZeroHost
from evenreel.hosts.vid2vid_zero.published import PublishedSession
from evenreel.hosts.vid2vid_zero.session import Vid2VidZeroSession
from hosts.jobs import Around, edit, job_for, random_latents

ALONE = Vid2VidZeroHost(cross=0.0, self_attention=0.0)
PUBLISHED = Vid2VidZeroHost(published=True)


def first_prediction(backbone, host, job, latents):
    with host.attach(backbone, job) as session, torch.no_grad():
        return session.predict_noise(latents, 0, job.timesteps[0])


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_one_frame_without_control_is_the_frame_host(tiny, guidance_scale):
    job = job_for(tiny, 1, guidance_scale=guidance_scale)
    theirs = edit(tiny, FrameHost(pnp_attn=0.0, pnp_conv=0.0, p2p_cross=0.0), job)
    assert_close(edit(tiny, ALONE, job), theirs)
    assert_apart(edit(tiny, Vid2VidZeroHost(), job), theirs, by=0.01)


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_the_published_way_begins_the_same(tiny, guidance_scale):
    """Of one frame and words of equally many tokens, as long as the source has not drifted off its inversion."""
    host = Vid2VidZeroHost(self_attention=0.0)
    job = job_for(tiny, 1, guidance_scale=guidance_scale, prompts=Prompts("a blue ball", "a pink ball"))
    latents = random_latents(1)
    ours, theirs = (
        first_prediction(tiny, replace(host, published=published), job, latents)
        for published in (False, True)
    )
    assert_close(ours, theirs)


def test_published_frames_share_their_norms(tiny):
    job, latents = job_for(tiny, 3), random_latents(3)
    host = Vid2VidZeroHost(self_attention=0.0)
    ours, theirs = (
        first_prediction(tiny, replace(host, published=published), job, latents)
        for published in (False, True)
    )
    assert_apart(ours, theirs, by=0.01)


def test_an_edit_that_is_the_source_takes_nothing(tiny):
    """Attention taken from the source is what the edit has already, if it is the source itself."""
    job = job_for(tiny, 4, guidance_scale=1.0, prompts=Prompts("a blue ball", "a blue ball"))
    job = replace(job, prompt_embeds=job.source_prompt_embeds)
    latents = job.source.read(job.timesteps[0])
    controlled, alone = (
        first_prediction(tiny, host, job, latents)
        for host in (Vid2VidZeroHost(cross=1.0, self_attention=1.0), ALONE)
    )
    assert_close(controlled, alone)


@pytest.mark.parametrize("setting", ["cross", "self_attention"])
def test_control_lasts_for_its_share_of_the_steps(tiny, setting):
    job = job_for(tiny, 2, steps=4)
    never = edit(tiny, ALONE, job)
    assert torch.equal(edit(tiny, replace(ALONE, **{setting: 0.2}), job), never)  # int(4 * 0.2) = 0 steps
    assert_apart(edit(tiny, replace(ALONE, **{setting: 0.5}), job), never)


def test_the_source_takes_part_only_while_it_is_needed(tiny):
    sizes = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            sizes.append(len(latents))
            return tiny.predict_noise(latents, timestep, embeds)

    edit(Watches(tiny), Vid2VidZeroHost(cross=0.5, self_attention=0.0), job_for(tiny, 2, steps=4))
    assert sizes == [6, 6, 4, 4]
    sizes.clear()
    edit(Watches(tiny), PUBLISHED, job_for(tiny, 2, steps=2))
    assert sizes == [8, 8]


@pytest.mark.parametrize("prompts", [None, Prompts("", "a red ball"), Prompts(" ", "a red ball")])
def test_without_a_source_prompt_no_words_are_compared(tiny, prompts):
    job = job_for(tiny, 2, prompts=prompts)
    assert torch.equal(edit(tiny, replace(ALONE, cross=1.0), job), edit(tiny, ALONE, job))


def test_a_model_without_words_is_refused(tiny):
    class Silent(Around):
        tokens = Backbone.tokens

    with pytest.raises(SettingsError, match=r"set vid2vid_zero\.cross to 0"):
        edit(Silent(tiny), Vid2VidZeroHost(), job_for(tiny, 1))
    edit(Silent(tiny), ALONE, job_for(tiny, 1))


def test_where_windows_meet_changes_from_step_to_step(tiny):
    meetings = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            meetings.append((timestep, len(latents) // 2))
            return tiny.predict_noise(latents, timestep, embeds)

    edit(Watches(tiny), replace(ALONE, window=4), job_for(tiny, 11, steps=6))
    by_step = [tuple(n for t, n in meetings if t == timestep) for timestep, _ in meetings]
    assert all(sum(lengths) == 11 and max(lengths) <= 4 for lengths in by_step)
    assert len(set(by_step)) > 1


def test_clips_up_to_a_window_pass_at_once(tiny):
    job = job_for(tiny, 5)
    assert torch.equal(
        edit(tiny, Vid2VidZeroHost(window=5), job), edit(tiny, Vid2VidZeroHost(window=50), job)
    )
    assert not torch.equal(edit(tiny, Vid2VidZeroHost(window=2), job), edit(tiny, Vid2VidZeroHost(), job))


def test_a_source_is_needed_for_control(tiny):
    job = job_for(tiny, 2, source=False)
    edit(tiny, ALONE, job)
    for host in (Vid2VidZeroHost(), replace(ALONE, published=True)):
        with pytest.raises(SettingsError, match="inverted source"):
            edit(tiny, host, job)


@pytest.mark.parametrize(
    ("share", "ours", "published"),
    [
        (1.0, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        (0.4, [0, 1], [0, 1, 2]),
        (0.0, [], []),
        (-0.4, [3, 4], [3, 4]),
        (-1.0, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ],
)
def test_null_texts_serve_a_share_of_the_steps(tiny, share, ours, published):
    job = job_for(tiny, 1, steps=5)
    job = replace(job, null_embeds=dict.fromkeys(job.timesteps, job.prompt_embeds))
    for session, expected in ((Vid2VidZeroSession, ours), (PublishedSession, published)):
        used = session.null_texts_used(job, share)
        assert [job.timesteps.index(timestep) for timestep in used] == expected


@pytest.mark.parametrize("host", [Vid2VidZeroHost(), PUBLISHED], ids=["ours", "published"])
def test_null_texts_take_the_place_of_the_negative_prompt(tiny, host):
    job, (other,) = job_for(tiny, 2), tiny.embed(["a green ball"])
    null = replace(job, null_embeds=dict.fromkeys(job.timesteps, other[None]))
    negative = replace(job, negative_prompt_embeds=other[None])
    assert torch.equal(edit(tiny, host, null), edit(tiny, host, negative))
    assert not torch.equal(edit(tiny, host, null), edit(tiny, host, job))


def test_the_published_way_leaves_the_model_as_it_was(tiny):
    latents, embeds = random_latents(3, seed=9), tiny.embed(["a blue ball"])
    with torch.no_grad():
        before = tiny.predict_noise(latents, 401, embeds)
        edit(tiny, PUBLISHED, job_for(tiny, 3))
        with pytest.raises(RuntimeError, match="stop"), PUBLISHED.attach(tiny, job_for(tiny, 3)):
            raise RuntimeError("stop")
        assert torch.equal(tiny.predict_noise(latents, 401, embeds), before)
        with inverting(PUBLISHED, tiny, 3) as together:
            assert together == 3
            assert_apart(tiny.predict_noise(latents, 401, embeds), before)
        with inverting(Vid2VidZeroHost(), tiny, 3) as together:
            assert together is None
            assert torch.equal(tiny.predict_noise(latents, 401, embeds), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())


def test_embeddings_may_differ_from_frame_to_frame_in_the_published_way(tiny):
    job = job_for(tiny, 3)
    repeated = replace(job, prompt_embeds=job.prompt_embeds.expand(3, -1, -1))
    assert_close(edit(tiny, PUBLISHED, repeated), edit(tiny, PUBLISHED, job))


@pytest.mark.parametrize(
    "setting",
    [
        {"window": 0},
        {"dense_block": -1},
        {"cross": 1.5},
        {"self_attention": float("nan")},
        {"null_text": -1.1},
        {"null_text": float("nan")},
    ],
)
def test_settings_check_themselves(setting):
    ((name, value),) = setting.items()
    with pytest.raises(SettingsError, match=rf"vid2vid_zero\.{name} must .*{value}"):
        Vid2VidZeroHost(**setting)


def test_a_block_that_the_model_lacks_is_refused(tiny):
    with pytest.raises(SettingsError, match="dense_block 7"):
        edit(tiny, Vid2VidZeroHost(dense_block=7), job_for(tiny, 1))


def test_every_setting_is_documented():
    source = inspect.getsource(Vid2VidZeroHost)
    for field in fields(Vid2VidZeroHost):
        _, _, after = source.partition(f"    {field.name}: ")
        assert after.split("\n")[1].strip().startswith('"""'), field.name


def test_the_source_stays_on_its_inversion(tiny):
    """However the edit goes: the same source gives the same attention. Published, it drifts."""
    job = job_for(tiny, 2, steps=2)
    other = {t: random_latents(2, seed=100 + t) for t in job.timesteps}
    changed = replace(
        job, source=Trajectory.of({**other, job.timesteps[0]: job.source.read(job.timesteps[0])})
    )
    assert not torch.equal(
        edit(tiny, Vid2VidZeroHost(cross=1.0), changed), edit(tiny, Vid2VidZeroHost(cross=1.0), job)
    )
    assert torch.equal(edit(tiny, PUBLISHED, changed), edit(tiny, PUBLISHED, job))
