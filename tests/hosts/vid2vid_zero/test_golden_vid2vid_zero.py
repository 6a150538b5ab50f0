"""vid2vid-zero against tensors recorded from its published implementation (golden/vid2vid_zero/README.md)."""

from contextlib import ExitStack

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

from closeness import difference
from evenreel.backbones import load_backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.diffusion import ddim
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.trajectory import Trajectory
from evenreel.hosts.base import EditJob, Prompts, inverting
from evenreel.hosts.prompt_to_prompt import map_prompts
from evenreel.hosts.vid2vid_zero.host import Vid2VidZeroHost
from evenreel.hosts.vid2vid_zero.published import PublishedSession
from evenreel.hosts.vid2vid_zero.spatio_temporal import (
    DenseAttention,
    SparseCausalAttention,
    VideoAttentionState,
    norms_shared,
    video_attentions,
)
from evenreel.inversions.null_text import optimise
from evenreel.ops.word_alignment import PUBLISHED, published_refinement
from hosts import golden
from hosts.jobs import Around

INVERSION, LATENTS, NOISE, ATTENTION, LOSSES, EXACT = 1e-5, 1e-3, 1e-4, 2e-5, 1e-5, 1e-6

units = pytest.mark.parametrize("recording", golden.cases("vid2vid_zero", "attn2_in"))
resnets = pytest.mark.parametrize("recording", golden.cases("vid2vid_zero", "resnet_in"))
prompted = pytest.mark.parametrize("recording", golden.cases("vid2vid_zero", "ctrl0"))
edits = pytest.mark.parametrize("recording", golden.cases("vid2vid_zero", "latents"))
null_texts = pytest.mark.parametrize("recording", golden.cases("vid2vid_zero", "null_embeddings"))


def frames_first(video):
    """(..., channels, frames, height, width) as (..., frames, channels, height, width)."""
    return video.transpose(-4, -3).contiguous()


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


def weights_of(recording, prefix):
    return {
        name.removeprefix(prefix): recording[name]
        for name in recording.names
        if name.startswith(prefix) and name.endswith((".weight", ".bias"))
    }


@units
@torch.no_grad()
def test_attention_layers(recording):
    for layer in recording.meta["attn"]:
        prefix = f"attn{layer['index']}_"
        hidden_states = recording[prefix + "in"]
        width = hidden_states.shape[2]
        attn = Attention(width, heads=layer["heads"], dim_head=width // layer["heads"])
        attn.load_state_dict(weights_of(recording, prefix))
        plain = attn.processor
        assert difference(attn(hidden_states), recording[prefix + "out_normal_infer"]) <= ATTENTION
        kind = DenseAttention if layer["kind"].startswith("dense") else SparseCausalAttention
        attn.set_processor(kind(plain, "layer", VideoAttentionState(branches=layer["videos"])))
        assert difference(attn(hidden_states), recording[prefix + "out"]) <= ATTENTION


@resnets
@torch.no_grad()
def test_resnets_with_norms_across_frames(recording):
    video, temb, expected = (recording[f"resnet_{name}"] for name in ("in", "temb", "out"))
    frames = video.shape[2]
    net = torch.nn.ModuleDict(
        {
            "resnet": ResnetBlock2D(
                in_channels=video.shape[1],
                out_channels=expected.shape[1],
                temb_channels=temb.shape[1],
                groups=8,
                eps=1e-5,
            )
        }
    )
    net["resnet"].load_state_dict(weights_of(recording, "resnet_"))
    for count in (frames, 1):
        rows = frames_first(video)[:, :count].flatten(0, 1)
        with norms_shared(net, lambda count=count: count):
            output = net["resnet"](rows, temb.repeat_interleave(count, dim=0))
        theirs = recording["resnet_out" if count == frames else "resnet_out_frame0_alone"]
        assert difference(output.unflatten(0, (-1, count)), frames_first(theirs)) <= ATTENTION


@prompted
def test_word_alignments_are_exact(recording, backbone):
    pairs = [("replace", pair) for pair in enumerate(recording.meta["replace_pairs"])]
    pairs += [("refine", pair) for pair in enumerate(recording.meta["refine_pairs"])]
    for kind, (number, prompts) in pairs:
        source, target = map(backbone.tokens, prompts)
        assert source.ids == tuple(recording[f"{kind}{number}_ids_source"].tolist())
        assert target.ids == tuple(recording[f"{kind}{number}_ids_target"].tolist())
        check_mapper(recording, f"{kind}{number}_mapper", f"{kind}{number}_alphas", source, target)


def check_mapper(recording, mapper, alphas, source, target):
    prompts = map_prompts(source, target, PUBLISHED)
    if alphas not in recording:
        assert torch.equal(prompts.taken, recording[mapper])
        assert not prompts.kept.any()
        return
    ours = published_refinement(source.ids, target.ids, target.length)
    assert torch.equal(ours[0], recording[mapper])
    assert torch.equal(ours[1], recording[alphas])
    assert torch.equal(prompts.kept, 1 - recording[alphas])


@prompted
def test_controllers(recording, backbone):
    for case in recording.meta["controllers"]:
        prompts = map_prompts(*map(backbone.tokens, case["prompts"]), PUBLISHED)
        share = case["cross_replace_steps"]
        for step in case["steps"]:
            before, after = (recording[f"ctrl{case['index']}_step{step}_{end}"] for end in ("in", "out"))
            _, _, source, target = before.chunk(4)
            edited = prompts.apply(source, target) if step < int(share * (case["num_steps"] + 1)) else target
            assert difference(edited, after.chunk(4)[3]) <= EXACT
            assert torch.equal(before.chunk(4)[:3][2], after.chunk(4)[2])


@prompted
def test_windows_are_exact(recording, backbone):
    prompts = Prompts(*recording.meta["replace_pairs"][0])
    names = [name for name in recording.names if name.startswith("cross_alpha")]
    assert names
    for name in names:
        case = recording.meta[name]
        job = made_up_job(backbone, case["num_steps"], prompts)
        host = Vid2VidZeroHost(published=True, cross=case["cross_replace_steps"])
        check_window(PublishedSession.planned(backbone, job, host), recording[name])


def made_up_job(backbone, steps, prompts):
    embeds = backbone.embed([*prompts, ""])
    return EditJob(
        shape=(1, 4, 2, 2),
        timesteps=backbone.schedule.timesteps(steps),
        source_prompt_embeds=embeds[:1],
        prompt_embeds=embeds[1:2],
        negative_prompt_embeds=embeds[2:],
        prompts=prompts,
    )


def check_window(plan, alphas):
    assert torch.equal((torch.arange(len(alphas)) < plan.text_steps).float(), alphas[:, 0])
    assert torch.equal(alphas, alphas[:, :1].expand_as(alphas))


@units
def test_ddim_moves(recording):
    alpha = golden.SCHEDULE.alpha
    for (move,) in golden.matching(recording.names, r"(ddim\d+)_eps"):
        timestep = int(recording[move + "_t"])
        below = timestep - 1000 // recording.meta[move]["num_steps"]
        x, noise = recording[move + "_x"][0], recording[move + "_eps"][0]
        for ours, theirs in (
            (ddim.step(x, noise, alpha(below), alpha(timestep)), "_next"),
            (ddim.step(x, noise, alpha(timestep), alpha(below)), "_prev"),
        ):
            assert difference(ours, recording[move + theirs][0]) <= INVERSION


def settings_of(recording):
    return recording.meta["config"]["validation_data"]


def recorded_prompts(recording):
    return Prompts(source=recording.meta["prompt_source"], edit=recording.meta["prompt_target"])


def recorded_inversion(recording):
    """Timesteps, descending, and latents from clean to noisy."""
    return recording["timesteps"].tolist(), frames_first(recording["inversion_latents"])


def recorded_source(recording):
    timesteps, latents = recorded_inversion(recording)
    return Trajectory.of(dict(zip(reversed(timesteps), latents[1:], strict=True)))


def recorded_host(recording):
    settings = recording.meta["config"]
    if not (settings["use_sc_attn"] and settings["use_st_attn"]):
        pytest.skip("this case switches attention across frames off")
    return Vid2VidZeroHost(
        published=True,
        dense_block=settings["st_attn_idx"],
        # What a controller for added words is passed is the other share, by mistake.
        cross=0.8 if recording.meta["controller"] == "AttentionRefine" else share_of(recording),
        self_attention=recording.meta["self_replace_steps_passed"],
        null_text=float(settings_of(recording)["null_uncond_ratio"]),
    )


def share_of(recording):
    return float(recording.meta["cross_replace_steps_passed"])


def recorded_job(recording, backbone):
    timesteps, latents = recorded_inversion(recording)
    source, edit = recording["prompt_embeds"].split(1)
    null_embeds = {}
    if "null_embeddings" in recording:
        null_embeds = dict(zip(timesteps, recording["null_embeddings"].split(1), strict=True))
    return EditJob(
        shape=tuple(latents.shape[1:]),
        timesteps=tuple(timesteps),
        prompt_embeds=edit,
        negative_prompt_embeds=backbone.embed([""]),
        null_embeds=null_embeds,
        source_prompt_embeds=source,
        prompts=recorded_prompts(recording),
        source=recorded_source(recording),
        guidance_scale=settings_of(recording)["guidance_scale"],
    )


@edits
def test_prompts(recording, backbone):
    embeds = backbone.embed(list(recorded_prompts(recording)))
    assert difference(embeds, recording["prompt_embeds"]) <= INVERSION


@edits
def test_encoding(recording, backbone):
    if "vae_mean" not in recording:
        pytest.skip("this case starts from latents")
    scale = backbone.vae.config.scaling_factor
    mean, std, noise = (recording[f"vae_{name}"] for name in ("mean", "std", "noise"))
    _, latents = recorded_inversion(recording)
    assert difference((mean + std * noise) * scale, latents[0]) <= EXACT
    if "source_frames_u8" in recording:
        frames = recording["source_frames_u8"].permute(0, 3, 1, 2) / 255
        assert difference(backbone.encode(frames), mean * scale) <= INVERSION


@edits
def test_inversion(recording, backbone):
    timesteps, latents = recorded_inversion(recording)
    empty = backbone.embed([""])
    with inverting(recorded_host(recording), backbone, latents.shape[1]) as together:
        assert together == latents.shape[1]
        run = invert(
            latents[0], lambda x, t: backbone.predict_noise(x, t, empty), backbone.schedule, timesteps
        )
        for (_, ours), theirs in zip(run, latents[1:], strict=True):
            assert difference(ours, theirs) <= INVERSION


@null_texts
def test_null_texts(recording, backbone):
    timesteps, latents = recorded_inversion(recording)
    settings = settings_of(recording)
    with ExitStack() as stack:
        stack.enter_context(inverting(recorded_host(recording), backbone, latents.shape[1]))
        if not settings["null_normal_infer"]:
            video = video_attentions(
                backbone.unet, VideoAttentionState(), recording.meta["config"]["st_attn_idx"]
            )
            stack.enter_context(processors_installed(backbone.unet, video))
        found = list(
            optimise(
                recorded_source(recording),
                latents[0],
                backbone.predict_noise,
                backbone.schedule,
                timesteps,
                prompt_embeds=recording["prompt_embeds"][:1],
                null_embeds=backbone.embed([""]),
                guidance_scale=settings["guidance_scale"],
                inner_steps=settings["null_inner_steps"],
                learning_rate=settings["null_base_lr"],
                published=True,
                batch=latents.shape[1],
            )
        )
    losses = torch.tensor([loss for one in found for loss in one.losses])
    assert losses.shape == recording["null_losses"].shape
    assert (losses / recording["null_losses"] - 1).abs().max() <= LOSSES
    reached = torch.stack([one.latents for one in found])
    assert difference(reached, frames_first(recording["null_latents"])) <= LATENTS
    # The first update of Adam goes by the sign of a gradient, which rounding decides where it vanishes.
    apart = (torch.cat([one.embeds for one in found]) - recording["null_embeddings"]).abs()
    assert (apart <= 1e-4).float().mean() >= 0.995
    assert apart.max() <= 5e-3


@edits
def test_prompt_maps_and_windows(recording, backbone):
    source, target = map(backbone.tokens, recorded_prompts(recording))
    check_mapper(recording, "p2p_mapper", "p2p_refine_alphas", source, target)
    plan = PublishedSession.planned(backbone, recorded_job(recording, backbone), recorded_host(recording))
    check_window(plan, recording["p2p_cross_alpha"])
    if "p2p_step0_mid_attn2_probs_in" not in recording:
        return
    probabilities = [recording[f"p2p_step0_mid_attn2_probs_{end}"].chunk(4) for end in ("in", "out")]
    (_, _, theirs, own), (*_, edited) = probabilities
    assert difference(plan.prompts.apply(theirs, own), edited) <= EXACT


@edits
def test_whole_edit(recording, backbone):
    job, host = recorded_job(recording, backbone), recorded_host(recording)
    recorded = frames_first(recording["latents"])
    raw, errors = RawOutputs(backbone, recording), []
    with host.attach(raw, job) as session:
        check_null_texts_used(session.job, recording)
        start, timesteps = session.start()
        run = sample(start, session.predict_noise, backbone.schedule, timesteps)
        for step_index, (_, latents) in enumerate(run):
            errors.append(difference(torch.stack([session.source, latents]), recorded[step_index]))
    print(f"latents, by step: {', '.join(f'{error:.1e}' for error in errors)}; noise: {raw.worst:.1e}")
    assert len(errors) == len(recorded)
    assert max(errors) <= LATENTS
    assert raw.compared == len(recording.meta["tapped_timesteps"])
    assert raw.worst <= NOISE
    if "frames_u8" not in recording:
        return
    shown = (backbone.decode(latents) * 255).permute(0, 2, 3, 1)
    apart = (shown.floor() - recording["frames_u8"].float()).abs()
    assert apart.max() <= 1  # they are truncated, so rounding decides between neighbours
    assert (apart > 0).float().mean() < 1e-2


def check_null_texts_used(job, recording):
    used = recording["uncond_embeds_used"]
    for index, timestep in enumerate(job.timesteps):
        ours = job.null_embeds.get(timestep, job.negative_prompt_embeds)
        assert difference(ours[0], used[min(index, len(used) - 1)]) <= INVERSION


class RawOutputs(Around):
    """A backbone whose outputs are compared with the recorded ones, before guidance."""

    def __init__(self, backbone, recording):
        super().__init__(backbone)
        self.recording, self.compared, self.worst = recording, 0, 0.0

    def predict_noise(self, latents, timestep, embeds):
        output = self.inner.predict_noise(latents, timestep, embeds)
        name = f"t{timestep}_noise_uncond_cond"
        if name in self.recording:
            theirs = frames_first(self.recording[name]).flatten(0, 1)
            self.compared, self.worst = self.compared + 1, max(self.worst, difference(output, theirs))
        return output


@edits
@torch.no_grad()
def test_attention_of_stored_inputs(recording, backbone):
    frames, compared = recording["inversion_latents"].shape[2], 0
    for name, kind in recording.meta["attn1_classes"].items():
        layer = name.removesuffix(".transformer_blocks.0.attn1")
        for timestep in recording.meta["tapped_timesteps"]:
            tap = f"t{timestep}_attn1.{layer}"
            if f"{tap}.in" not in recording:
                continue
            hidden_states = recording[f"{tap}.in"]
            watching = VideoAttentionState(branches=len(hidden_states) // frames)
            processors = video_attentions(backbone.unet, watching, recording.meta["config"]["st_attn_idx"])
            assert (type(processors[f"{name}.processor"]) is DenseAttention) == (
                kind == "SpatialTemporalAttention"
            )
            with processors_installed(backbone.unet, processors):
                output = backbone.unet.get_submodule(name)(hidden_states)
            assert difference(output, recording[f"{tap}.out"]) <= ATTENTION
            compared += 1
    assert compared


@edits
@torch.no_grad()
def test_attention_to_the_prompt_in_the_first_step(recording, backbone):
    if "p2p_step0_mid_attn2_probs_in" not in recording:
        pytest.skip("this case has no probabilities")
    job, seen = recorded_job(recording, backbone), []
    mid = backbone.unet.mid_block.attentions[0].transformer_blocks[0].attn2

    class Sees:
        """Remembers the probabilities of the layer, from what it is given."""

        def __init__(self, inner):
            self.inner = inner

        def __call__(self, attn, hidden_states, encoder_hidden_states, *args, **kwargs):
            query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
            query, key = map(attn.head_to_batch_dim, (query, key))
            seen.append(attn.get_attention_scores(query, key))
            return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)

    with recorded_host(recording).attach(backbone, job) as session:
        (name,) = (n for n, p in backbone.unet.attn_processors.items() if p is mid.processor)
        with processors_installed(backbone.unet, {name: Sees(mid.processor)}):
            session.predict_noise(session.start()[0], 0, job.timesteps[0])
    theirs = recording["p2p_step0_mid_attn2_probs_in"]
    assert difference(seen[0], theirs) <= ATTENTION
