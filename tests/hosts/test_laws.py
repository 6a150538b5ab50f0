"""What holds for every host."""

import inspect
from dataclasses import fields, replace

import pytest
import torch
from peft import LoraConfig

from closeness import assert_apart, assert_close, rows_apart
from evenreel import registry
from evenreel.diffusion.sampling import sample
from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.tokenflow.host import TokenFlowHost
from evenreel.hosts.vidtome.host import VidToMeHost
from hosts.jobs import Around, edit, job_for, random_latents

HOSTS = [
    *(create_host(name) for name in registry.names(registry.HOSTS)),
    VidToMeHost(chunk_size=2, chunk_order="rand"),
    VidToMeHost(merge_global=False),
    TokenFlowHost(window=2, keyframes_together=2),
    TokenFlowHost(mode="sdedit", start=0.5),
    TokenFlowHost(published=True),
]
every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


@torch.no_grad()
def answer(backbone):
    latents = random_latents(3, seed=9)
    return backbone.predict_noise(latents, 401, backbone.embed(["a blue ball"]))


@every_host
def test_detaching_restores_the_model_bit_for_bit(host, tiny):
    before, processors = answer(tiny), dict(tiny.unet.attn_processors)
    edit(tiny, host, job_for(tiny, 3))
    assert torch.equal(answer(tiny), before)
    assert tiny.unet.attn_processors == processors
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())


@every_host
def test_detaching_restores_the_model_after_an_exception(host, tiny):
    before = answer(tiny)
    job = job_for(tiny, 3)

    class Breaks(Around):
        def predict_noise(self, latents, timestep, embeds):
            tiny.predict_noise(latents, timestep, embeds)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), host.attach(Breaks(tiny), job) as session:
        session.predict_noise(random_latents(3), 0, job.timesteps[0])
    assert torch.equal(answer(tiny), before)


@every_host
def test_detaching_restores_a_model_with_lora(host, tiny):
    plain = answer(tiny)
    tiny.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights="gaussian")
    )
    try:
        with torch.no_grad():
            for name, weight in tiny.unet.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.05)
        before, job = answer(tiny), job_for(tiny, 3)
        assert not torch.equal(before, plain)
        with_lora = edit(tiny, host, job)
        assert torch.equal(answer(tiny), before)
        tiny.unet.disable_adapters()
        # The wrapped processors see the adapter: it changes what the host makes.
        assert not torch.equal(edit(tiny, host, job), with_lora)
    finally:
        tiny.unet.delete_adapters("default")
        tiny.unet.unload_lora()
    assert torch.equal(answer(tiny), plain)


@every_host
@pytest.mark.parametrize("frames", [1, 2, 5, 17])
def test_every_frame_is_predicted(host, tiny, frames):
    latents = edit(tiny, host, job_for(tiny, frames, steps=2))
    assert latents.shape == (frames, 4, 8, 8)
    assert torch.isfinite(latents).all()
    assert len({frame.numpy().tobytes() for frame in latents}) == frames


@every_host
@pytest.mark.parametrize("size", [(16, 22), (10, 18), (2, 6)])
def test_latents_need_not_halve_evenly(host, tiny, size):
    job = job_for(tiny, 5, steps=1)
    source = torch.randn(5, 4, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    trajectory = type(job.source).of(dict.fromkeys(job.timesteps, source))
    job = replace(job, shape=tuple(source.shape), source=trajectory, clean=source)
    with host.attach(tiny, job) as session, torch.no_grad():
        noise_pred = session.predict_noise(source.flip(0), 0, job.timesteps[0])
    assert noise_pred.shape == source.shape
    assert torch.isfinite(noise_pred).all()


@every_host
def test_equal_seeds_give_equal_edits(host, tiny):
    job = job_for(tiny, 5, steps=2)
    torch.manual_seed(1)
    first = edit(tiny, host, job)
    torch.manual_seed(2)  # the global generator must not matter
    assert torch.equal(edit(tiny, host, job), first)


def test_other_seeds_give_other_edits(tiny):
    job = job_for(tiny, 9)
    assert not torch.equal(edit(tiny, VidToMeHost(), job), edit(tiny, VidToMeHost(), replace(job, seed=1)))


@pytest.mark.parametrize("pnp", [(0.5, 0.8), (0.0, 0.0)])
@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_vidtome_that_merges_nothing_is_the_frame_host(tiny, pnp, guidance_scale):
    attn, conv = pnp
    # Not bit for bit: after the injection only one of them drops the source, and other batches may round otherwise.
    job = job_for(tiny, 5, batch=2, guidance_scale=guidance_scale)
    alone = VidToMeHost(chunk_size=1, merge_global=False, pnp_attn=attn, pnp_conv=conv)
    ours = edit(tiny, alone, job)
    theirs = edit(tiny, FrameHost(pnp_attn=attn, pnp_conv=conv, p2p_cross=0.0), job)
    assert_close(ours, theirs)
    # Merging with ratio 0 still lets frames see each other, so a chunk of two is another edit.
    joined = VidToMeHost(
        chunk_size=2, merge_global=False, local_merge_ratio=0.0, pnp_attn=attn, pnp_conv=conv
    )
    assert_apart(edit(tiny, joined, job), theirs)


def test_identical_frames_are_edited_alike(tiny):
    """A still clip stays still: of equal frames, merging at full ratio drops only copies."""
    job = job_for(tiny, 6)
    still = {t: job.source.read(t, [0]).expand(6, -1, -1, -1) for t in job.timesteps}
    job = replace(job, source=type(job.source).of(still))
    start = random_latents(1).expand(6, -1, -1, -1)
    host = VidToMeHost(local_merge_ratio=1.0, merge_global=False)
    with host.attach(tiny, job) as session:
        *_, (_, latents) = sample(start, session.predict_noise, tiny.schedule, job.timesteps)
    assert_close(latents, latents[:1].expand_as(latents))


def test_no_injection_needs_no_source(tiny):
    job = job_for(tiny, 3, source=False)
    edit(tiny, FrameHost(pnp_attn=0.0, pnp_conv=0.0, p2p_cross=0.0), job)
    for host in (FrameHost(), FrameHost(pnp_attn=0.0, pnp_conv=0.0), VidToMeHost()):
        with pytest.raises(SettingsError, match="inverted source"):
            edit(tiny, host, job)


@pytest.mark.parametrize("share", ["pnp_attn", "pnp_conv"])
def test_injection_matters_while_it_lasts(tiny, share):
    job = job_for(tiny, 2, steps=4)
    without = FrameHost(pnp_attn=0.0, pnp_conv=0.0)
    brief = replace(without, **{share: 0.2})  # int(4 * 0.2) = 0 steps
    half = replace(without, **{share: 0.5})
    assert torch.equal(edit(tiny, brief, job), edit(tiny, without, job))
    assert_apart(edit(tiny, half, job), edit(tiny, without, job))


def test_less_attention_is_injected_where_another_shape_is_asked_for(tiny):
    """Unless it is told."""
    job = job_for(tiny, 2, steps=8)
    other = replace(job, reshapes=True)
    usual, less = FrameHost(pnp_attn=0.5, p2p_cross=0.5), FrameHost(pnp_attn=0.15, p2p_cross=0.0)
    assert torch.equal(edit(tiny, FrameHost(), job), edit(tiny, usual, job))
    assert torch.equal(edit(tiny, FrameHost(), other), edit(tiny, less, other))
    assert torch.equal(edit(tiny, usual, other), edit(tiny, usual, job))
    assert_apart(edit(tiny, less, job), edit(tiny, usual, job))


def test_full_injection_and_no_guidance_of_the_source_itself_changes_nothing(tiny):
    """Features injected into an edit that is the source's own branch are those it has already."""
    job = job_for(tiny, 3, steps=1, guidance_scale=1.0)
    job = replace(job, prompt_embeds=job.source_prompt_embeds)
    latents = job.source.read(job.timesteps[0])
    outputs = []
    for host in (FrameHost(pnp_attn=1.0, pnp_conv=1.0), FrameHost(pnp_attn=0.0, pnp_conv=0.0)):
        with host.attach(tiny, job) as session, torch.no_grad():
            outputs.append(session.predict_noise(latents, 0, job.timesteps[0]))
    assert_close(*outputs)


def test_embeddings_may_differ_from_frame_to_frame(tiny):
    job = job_for(tiny, 5, steps=2)
    repeated = replace(job, prompt_embeds=job.prompt_embeds.expand(5, -1, -1))
    for host in HOSTS:
        assert_close(edit(tiny, host, repeated), edit(tiny, host, job))
    other = repeated.prompt_embeds.clone()
    other[3] = job.negative_prompt_embeds[0]
    changed = edit(tiny, FrameHost(), replace(job, prompt_embeds=other))
    assert rows_apart(changed, edit(tiny, FrameHost(), job)) == [False, False, False, True, False]


@every_host
def test_the_network_never_sees_more_frames_than_a_chunk(host, tiny):
    sizes = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            sizes.append(len(latents))
            return tiny.predict_noise(latents, timestep, embeds)

    edit(Watches(tiny), host, job_for(tiny, 11, steps=2, batch=3))
    assert max(sizes) <= 3 * 3  # branches, frames


@pytest.mark.parametrize(
    ("host_class", "setting"),
    [
        (FrameHost, {"pnp_attn": 1.5}),
        (FrameHost, {"pnp_conv": -0.1}),
        (VidToMeHost, {"chunk_size": 0}),
        (VidToMeHost, {"local_merge_ratio": float("nan")}),
        (VidToMeHost, {"global_merge_ratio": 2.0}),
        (VidToMeHost, {"global_rand": -1.0}),
        (VidToMeHost, {"chunk_order": "mix-1"}),
        (VidToMeHost, {"chunk_order": "sideways"}),
        (VidToMeHost, {"max_downsample": 0}),
    ],
)
def test_settings_check_themselves(host_class, setting):
    (name, value), *_ = setting.items()
    with pytest.raises(SettingsError, match=rf"{host_class.name}\.{name} must .*{str(value).strip('-')}"):
        host_class(**setting)


@pytest.mark.parametrize("host_class", {type(host): None for host in HOSTS}, ids=lambda host: host.name)
def test_every_setting_is_documented(host_class):
    source = inspect.getsource(host_class)
    for field in fields(host_class):
        _, _, after = source.partition(f"    {field.name}: ")
        assert after.split("\n")[1].strip().startswith('"""'), field.name


def test_attention_to_the_words_of_the_source_lasts_as_long_as_it_is_told(tiny):
    job = job_for(tiny, 2, steps=4)
    none, half, whole = (edit(tiny, FrameHost(p2p_cross=share), job) for share in (0.0, 0.5, 1.0))
    assert_apart(none, half)
    assert_apart(half, whole)
    without_words = replace(job, prompts=job.prompts._replace(source=""))
    assert torch.equal(edit(tiny, FrameHost(p2p_cross=1.0), without_words), none)
    # the same words take their own attention over
    alike = replace(
        job, prompt_embeds=job.source_prompt_embeds, prompts=job.prompts._replace(edit=job.prompts.source)
    )
    at_source = replace(alike, source=type(job.source).of({t: random_latents(2) for t in job.timesteps}))
    predicted = []
    for share in (0.0, 1.0):
        host = FrameHost(pnp_attn=0.0, pnp_conv=0.0, p2p_cross=share)
        with host.attach(tiny, at_source) as session:
            predicted.append(session.predict_noise(random_latents(2), 0, job.timesteps[0]))
    assert_close(*predicted)
