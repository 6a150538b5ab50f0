"""What holds for TokenFlow beside what holds for every host."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from closeness import assert_close, rows_apart
from evenreel.backbones import layers
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.hosts import extended_attention
from evenreel.hosts.base import create_host
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.tokenflow.host import TokenFlowHost
from evenreel.hosts.tokenflow.variants import Corrected, Published
from hosts.jobs import Around, edit, job_for, random_latents


@torch.no_grad()
def predicted(backbone, host, job, latents, **attach):
    with host.attach(backbone, job, **attach) as session:
        return session.predict_noise(latents, 0, job.timesteps[0])


def drawn(*keyframes):
    return lambda _step_index, _frames: keyframes


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_a_single_frame_is_edited_as_by_the_frame_host(tiny, guidance_scale):
    job = job_for(tiny, 1, guidance_scale=guidance_scale)
    ours, theirs = edit(tiny, TokenFlowHost(), job), edit(tiny, FrameHost(p2p_cross=0.0), job)
    assert_close(ours, theirs)


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_a_keyframe_would_take_its_own_tokens(tiny, guidance_scale):
    """Which is why no second pass is made for keyframes."""
    job, latents = job_for(tiny, 3, guidance_scale=guidance_scale), random_latents(3)
    once = predicted(tiny, TokenFlowHost(), job, latents, draw=drawn(1))
    # Of a single window the published frames, too, take from its keyframe alone, and here the keyframe among them.
    twice = predicted(tiny, TokenFlowHost(published=True), job, latents, draw=drawn(1))
    assert_close(once[1], twice[1])


def test_frames_take_from_the_keyframes_on_both_sides(tiny):
    job, latents = job_for(tiny, 6), random_latents(6)
    before = predicted(tiny, TokenFlowHost(), job, latents, draw=drawn(1, 4))
    # A frame's attention output comes from keyframes alone: of those, what the edit shows of frame 4 changes.
    latents[4] += 1.0
    after = predicted(tiny, TokenFlowHost(), job, latents, draw=drawn(1, 4))
    assert all(rows_apart(before, after))
    # The same change of a frame that is no keyframe stays its own.
    latents[3] += 1.0
    last = predicted(tiny, TokenFlowHost(), job, latents, draw=drawn(1, 4))
    assert rows_apart(after, last) == [False, False, False, True, False, False]


def test_a_still_clip_stays_still(tiny):
    job = job_for(tiny, 6)
    still = {t: job.source.read(t, [0]).expand(6, -1, -1, -1) for t in job.timesteps}
    job = replace(job, source=Trajectory.of(still))
    latents = edit(tiny, TokenFlowHost(window=3), job)
    assert_close(latents, latents[:1].expand_as(latents))


def test_the_batch_changes_no_result_while_keyframes_fit(tiny):
    job = job_for(tiny, 9, steps=2)
    small, large = (edit(tiny, TokenFlowHost(window=3), replace(job, batch=batch)) for batch in (3, 9))
    assert_close(small, large)


def test_other_seeds_draw_other_keyframes(tiny):
    job = job_for(tiny, 8)
    assert not torch.equal(
        edit(tiny, TokenFlowHost(), job), edit(tiny, TokenFlowHost(), replace(job, seed=1))
    )


def test_keyframes_of_later_stages_see_those_of_the_first(tiny):
    job, latents = job_for(tiny, 6, batch=2), random_latents(6)
    host = TokenFlowHost(window=1, keyframes_together=2)
    before = predicted(tiny, host, job, latents)
    latents[1] += 1.0  # frames 1 and 4 are the first stage
    after = predicted(tiny, host, job, latents)
    assert all(rows_apart(before, after))
    latents[0] += 1.0  # frames 0 and 2 are the second
    last = predicted(tiny, host, job, latents)
    assert rows_apart(after, last) == [True, False, True, False, False, False]


@pytest.mark.parametrize(
    ("host", "frames", "passes"),
    [
        (TokenFlowHost(window=4), 8, [2, 4, 2]),  # keyframes, then the others
        (TokenFlowHost(window=4, published=True), 8, [2, 4, 4]),  # keyframes, then all
        (TokenFlowHost(window=1, keyframes_together=3), 7, [3, 3, 1]),
    ],
)
def test_no_frame_is_computed_more_often_than_needed(tiny, host, frames, passes):
    counts = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds, **added):
            counts.append(len(latents) // 3)
            return tiny.predict_noise(latents, timestep, embeds, **added)

    predicted(Watches(tiny), host, job_for(tiny, frames, batch=4), random_latents(frames))
    assert counts == passes


def test_what_is_kept_does_not_grow_with_the_clip(tiny):
    def most_kept(frames):
        job, most = job_for(tiny, frames, steps=1, batch=2), 0
        with TokenFlowHost(window=2).attach(tiny, job) as session:

            class Watches(Around):
                def predict_noise(self, *args, **added):
                    nonlocal most
                    noise_pred = tiny.predict_noise(*args, **added)
                    tensors = [
                        *(t for kept in session.state.kept.values() for k in kept.values() for t in (k.keys, k.output)),
                        *session.state.context.values(),
                    ]  # fmt: skip
                    # A view of what belongs to a forgotten keyframe would hold that too.
                    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
                    most = max(most, sum(tensor.nbytes for tensor in tensors))
                    return noise_pred

            session.backbone = Watches(tiny)
            with torch.no_grad():
                session.predict_noise(random_latents(frames), 0, job.timesteps[0])
            assert not session.state.kept
            assert not session.state.context
        return most

    assert 0 < most_kept(40) == most_kept(20)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [2**28, 4 * 2 * 20 * 3])
def test_extended_attention_is_attention_over_all_tokens(tiny, at_once, monkeypatch):
    monkeypatch.setattr(
        extended_attention, "_SCORES_AT_ONCE", at_once
    )  # all queries in one block, or three at a time
    name = layers.self_attentions(tiny.unet)[0]
    attn = layers.attention(tiny.unet, name)
    queries, keys, values = (
        torch.randn(rows, tokens, 32, generator=torch.Generator().manual_seed(tokens + rows)).double()
        for rows, tokens in ((1, 10), (1, 20), (2, 20))
    )

    def heads(x):
        return x.expand(2, -1, -1).unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    expected = scaled_dot_product_attention(
        heads(attn.to_q(queries)), heads(attn.to_k(keys)), heads(attn.to_v(values))
    )
    expected = attn.to_out[0](expected.transpose(1, 2).flatten(2))
    ours = extended_attention.attend(attn.processor, attn, queries, keys, values)
    assert_close(ours, expected)


def test_fused_projections_are_refused():
    fused = SimpleNamespace(fused_projections=True)
    with pytest.raises(SettingsError, match="unfuse"):
        extended_attention.attend(lambda *_: pytest.fail("called"), fused, *torch.zeros(3, 1, 4, 8))


def test_sdedit_takes_the_last_steps():
    timesteps = tuple(range(901, 0, -100))
    assert Corrected().last_timesteps(timesteps, 0.9) == timesteps[1:]
    assert Corrected().last_timesteps(timesteps, 1.0) == timesteps
    assert Corrected().last_timesteps(timesteps, 0.01) == timesteps[-1:]
    # One less than it says, and all where it says less than two.
    assert Published().last_timesteps(timesteps, 0.9) == timesteps[2:]
    assert Published().last_timesteps(timesteps, 0.1) == timesteps
    fifty = tuple(range(981, 0, -20))
    assert len(Published().last_timesteps(fifty, 0.9)) == 44
    assert len(Corrected().last_timesteps(fifty, 0.9)) == 45


def test_sdedit_starts_at_the_source_with_the_noise_of_its_inversion(tiny):
    job = job_for(tiny, 3, steps=10)
    alpha = tiny.schedule.alpha
    noise = random_latents(3, seed=77)
    trajectory = {t: alpha(t) ** 0.5 * job.clean + (1 - alpha(t)) ** 0.5 * noise for t in job.timesteps}
    # Only the noisiest counts.
    trajectory |= {t: torch.zeros_like(job.clean) for t in job.timesteps[1:]}
    job = replace(job, source=Trajectory.of(trajectory))
    with TokenFlowHost(mode="sdedit", start=0.5).attach(tiny, job) as session:
        latents, timesteps = session.start()
    assert timesteps == job.timesteps[5:]
    level = alpha(timesteps[0])
    expected = level**0.5 * job.clean + (1 - level) ** 0.5 * noise
    assert_close(latents, expected)


def test_sdedit_injects_nothing(tiny):
    job = job_for(tiny, 3)
    without = edit(tiny, TokenFlowHost(mode="sdedit", pnp_attn=0.0, pnp_conv=0.0), job)
    assert torch.equal(edit(tiny, TokenFlowHost(mode="sdedit"), job), without)


@pytest.mark.parametrize("missing", ["source", "clean"])
def test_a_clip_is_needed(tiny, missing):
    with pytest.raises(SettingsError, match="cannot work without"):
        edit(tiny, TokenFlowHost(), replace(job_for(tiny, 3), **{missing: None}))


@pytest.mark.parametrize(
    "setting",
    [
        {"mode": "video"},
        {"window": 0},
        {"keyframes_together": 0},
        {"pnp_attn": 1.5},
        {"pnp_conv": float("nan")},
        {"start": 0.0},
        {"start": -0.1},
    ],
)
def test_settings_check_themselves(setting):
    (name, value), *_ = setting.items()
    with pytest.raises(SettingsError, match=rf"tokenflow\.{name} must .*{str(value).strip('-')}"):
        create_host("tokenflow", setting)
