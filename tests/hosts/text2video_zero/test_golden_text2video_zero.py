"""Text2Video-Zero against tensors recorded from its published implementation (golden/text2video_zero/README.md)."""

import re
from dataclasses import dataclass

import pytest
import torch
from diffusers.models.attention_processor import Attention

from closeness import assert_close, difference
from evenreel.backbones import load_backbone
from evenreel.backbones.control import Control, load_control
from evenreel.diffusion import ddim, motion
from evenreel.diffusion.sampling import sample
from evenreel.hosts.base import EditJob
from evenreel.hosts.text2video_zero.first_frame import FirstFrameAttention, FirstFrameState
from evenreel.hosts.text2video_zero.host import Draws, Text2VideoZeroHost
from evenreel.hosts.text2video_zero.variants import DemoClip, PublishedMotion
from hosts import golden
from hosts.jobs import Around

CONTROL = "tiny-controlnet-strong"
LATENTS, NOISE, ATTENTION, JUMP, FRAMES, LEVELS = 1e-3, 1e-4, 2e-5, 1e-5, 5e-5, 1

units = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "warp0_in"))
with_text = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "attn0_cross"))
one_pass = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "pass2_latents"))
chunked = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "chunk0_x_0"))
prompted = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "prompt_embeds"))
tapped = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "t"))
controlled = pytest.mark.parametrize("recording", golden.cases("text2video_zero", "condition_u8"))


def by_frame(recorded):
    """(1, channels, frames, height, width) as published, to our latents."""
    return recorded[0].transpose(0, 1)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


@units
def test_the_warp_is_exact(recording):
    for case in recording.meta["warp_cases"]:
        name = f"warp{case['index']}"
        latents, (height, width) = by_frame(recording[f"{name}_in"]), case["latent_hw"]
        flow = recording[f"{name}_flow"].tolist()
        assert flow == [[case["strength_x"] * k, case["strength_y"] * k] for k in case["frame_ids"]]
        shifts = [
            tuple(
                PublishedMotion().shift(offset, cells, min(height, width))
                for offset, cells in ((dy, height), (dx, width))
            )
            for dx, dy in flow
        ]
        assert torch.equal(motion.shifted(latents, shifts), by_frame(recording[f"{name}_out"]))
        for (down, right), (rows, columns) in zip(shifts, recording[f"{name}_source_yx"], strict=True):
            assert torch.equal(motion.source_cells(height, down)[:, None].expand(height, width), rows)
            assert torch.equal(motion.source_cells(width, right).expand(height, width), columns)


@units
def test_the_jump(recording):
    for (name,) in golden.matching(recording.names, r"(ddpm\d+)_x0"):
        lower, upper = recording[f"{name}_t0_t1"].tolist()
        alpha = PublishedMotion().alpha_between(golden.SCHEDULE, lower, upper)
        assert alpha == pytest.approx(recording[f"{name}_alpha_prod"].item(), rel=JUMP)
        latents, noise, out = (by_frame(recording[f"{name}_{part}"]) for part in ("x0", "noise", "out"))
        assert difference(ddim.add_noise(latents, noise, alpha), out) <= JUMP


def recorded_attention(recording, name, heads, context=None):
    weight = recording[f"{name}_to_q.weight"]
    attention = Attention(
        weight.shape[1], context, heads=heads, dim_head=len(weight) // heads, bias=False, out_bias=True
    )
    keys = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")
    attention.load_state_dict({key: recording[f"{name}_{key}"] for key in keys})
    return attention.eval()


@units
@torch.no_grad()
def test_attention_to_the_first_frame(recording):
    for layer in recording.meta["attn_layers"]:
        name = f"attn{layer['index']}"
        attention = recorded_attention(recording, name, layer["heads"])
        inputs = recording[f"{name}_in"]
        state = FirstFrameState(branches=len(inputs) // layer["frames"])
        attention.set_processor(FirstFrameAttention(attention.processor, name, state, None))
        assert difference(attention(inputs), recording[f"{name}_out"]) <= ATTENTION


@with_text
@torch.no_grad()
def test_attention_to_text(recording):
    for layer in recording.meta["attn_layers"]:
        context = recording[f"attn{layer['index']}_cross_context"]
        name = f"attn{layer['index']}_cross"
        attention = recorded_attention(recording, name, layer["heads"], context.shape[2])
        output = attention(recording[f"attn{layer['index']}_in"], context)
        assert difference(output, recording[f"{name}_out"]) <= ATTENTION


@prompted
@torch.no_grad()
def test_prompts(recording, backbone):
    prompts = [recording.meta["negative_prompt"], recording.meta["prompt_full"]]
    # The published code cuts a prompt that is too long; ours refuses it.
    text, options = backbone.text, {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    token_ids = text.tokenizer(prompts, max_length=text.length, **options).input_ids
    embeds = text.text_encoder(token_ids).last_hidden_state
    assert difference(embeds, recording["prompt_embeds"]) <= ATTENTION


def count_frames(recording):
    """Frames of the clip, whatever the metadata say."""
    if "chunk_frame_ids" in recording.meta:
        return sum(len(chunk) - 1 for chunk in recording.meta["chunk_frame_ids"])
    return recording["pass2_latents" if "pass2_latents" in recording else "latents"].shape[1]


def recorded_job(recording, backbone, latents, **changes):
    negative, prompt = recording["prompt_embeds"].split(1)
    meta, frames = recording.meta, count_frames(recording)
    fields = {
        "shape": (frames, *latents.shape[1:]),
        "batch": frames,
        "timesteps": backbone.schedule.timesteps(meta["steps"]),
        "prompt_embeds": prompt,
        "negative_prompt_embeds": negative,
        "source_prompt_embeds": negative,
        "guidance_scale": meta["guidance_scale"],
        "seed": meta["seed"],
    }
    return EditJob(**(fields | changes))


def recorded_host(recording, backbone, **changes):
    """The published settings; t0 and t1 count timesteps from the last one."""
    meta = recording.meta
    if "motion" in meta:
        timesteps = backbone.schedule.timesteps(meta["steps"])[::-1]
        changes |= {
            "motion_x": float(meta["motion"][0]),
            "motion_y": float(meta["motion"][1]),
            "motion_timestep": timesteps[meta["t0"]],
            "free_timestep": timesteps[meta["t1"]],
        }
    return Text2VideoZeroHost(published=True, pnp_attn=0.0, pnp_conv=0.0, **changes)


@tapped
@torch.no_grad()
def test_layers_given_the_recorded_input(recording, backbone):
    nets = {"attn1": backbone.unet}
    if "condition_u8" in recording:
        nets["controlnet.attn1"] = load_control(golden.model(CONTROL), backbone).net
    checked = 0
    for name in recording.names:
        if match := re.fullmatch(r"t\d+_((?:controlnet\.)?attn1)\.(.+)\.in", name):
            attention = nets[match[1]].get_submodule(f"{match[2]}.transformer_blocks.0.attn1")
            inputs = recording[name]
            # both halves, or rows of the conditional one
            state = FirstFrameState(branches=max(1, len(inputs) // count_frames(recording)))
            across = FirstFrameAttention(attention.processor, name, state, None)
            recorded = recording[name.removesuffix("in") + "out"]
            assert difference(across(attention, inputs), recorded) <= ATTENTION, name
            checked += 1
    if not checked:
        pytest.skip("nothing was recorded inside this one")


class Taps:
    """What passes through some attention layers, and what the network returns, in the step at hand."""

    def __init__(self, recording):
        self.recording, self.seen, self.worst = recording, {}, {}

    def watch(self, net, prefix):
        """Hook the attention layers of `net` of which there are recordings."""
        pattern = rf"t\d+_{re.escape(prefix)}(.+)\.in"
        for layer in {match[1] for name in self.recording.names if (match := re.fullmatch(pattern, name))}:
            attention = net.get_submodule(f"{layer}.transformer_blocks.0.attn1")
            attention.register_forward_hook(
                lambda _, args, output, name=f"{prefix}{layer}": self.seen.update(
                    {f"{name}.in": args[0].clone(), f"{name}.out": output}
                )
            )

    def compare(self, timestep):
        for name, ours in self.seen.items():
            recorded = f"t{timestep}_{name}"
            if recorded in self.recording:
                theirs = self.recording[recorded]
                if len(theirs) < len(ours):  # the first rows of the conditional half
                    ours = ours[len(ours) // 2 :][: len(theirs)]
                self.worst[recorded] = difference(ours, theirs)
        self.seen.clear()


class Raw(Around):
    """A backbone that leaves its answers with the taps."""

    def __init__(self, backbone, taps):
        super().__init__(backbone)
        self.taps = taps

    def predict_noise(self, *args, **kwargs):
        output = self.inner.predict_noise(*args, **kwargs)
        self.taps.seen["noise_uncond_cond"] = output
        return output


@pytest.fixture
def fresh():
    """A model of the test's own, whose hooks go with it."""
    return load_backbone(golden.model(), device="cpu", dtype="float32")


def run(session, latents, timesteps, backbone, taps, recorded):
    """Sample and return the largest difference from the recorded latents, which begin with the start."""
    errors = [difference(latents, recorded[0])]

    def predict(latents, step_index, timestep):
        noise_pred = session.predict_noise(latents, step_index, timestep)
        taps.seen["noise_guided"] = noise_pred
        return noise_pred

    steps = sample(latents, predict, backbone.schedule, timesteps)
    for step_index, (timestep, latents) in enumerate(steps):
        errors.append(difference(latents, recorded[step_index + 1]))
        taps.compare(timestep)
    return latents, errors


def check_taps(taps, recording):
    expected = {name for name in recording.names if re.match(r"t\d+_", name)}
    assert taps.worst.keys() == expected
    print("; ".join(f"{name} {worst:.1e}" for name, worst in taps.worst.items()))
    # Layers see inputs that have drifted by rounding; given the recorded input they are held to more, above.
    assert max(taps.worst.values(), default=0.0) <= LATENTS
    raw = [worst for name, worst in taps.worst.items() if name.endswith("noise_uncond_cond")]
    assert max(raw, default=0.0) <= NOISE


def check_pictures(frames, recording):
    if "frames_u8" not in recording:
        return
    shown = (frames.permute(0, 2, 3, 1) * 255).to(torch.uint8).int()
    assert (shown - recording["frames_u8"].int()).abs().max() <= LEVELS
    if "frame0_float" in recording:
        assert difference(frames[0].permute(1, 2, 0), recording["frame0_float"]) <= FRAMES


@one_pass
def test_a_clip_in_one_pass(recording, fresh):
    first = by_frame(recording["x_T"])
    job = recorded_job(recording, fresh, first)
    draws = Draws(first, by_frame(recording["ddpm_noise"]))
    taps = Taps(recording)
    raw = Raw(fresh, taps)
    with recorded_host(recording, fresh).attach(raw, job, draws=draws) as session:
        latents, timesteps = session.start()
        assert list(timesteps) == recording["pass2_timesteps"].tolist()
        taps.watch(fresh.unet, "attn1.")
        latents, errors = run(session, latents, timesteps, fresh, taps, recording["pass2_latents"])
    print(f"latents, by step: {', '.join(f'{error:.1e}' for error in errors)}")
    assert max(errors) <= LATENTS
    check_taps(taps, recording)
    check_pictures(fresh.decode(latents), recording)


@one_pass
def test_the_first_frame_and_the_moved_ones(recording, backbone):
    meta, first = recording.meta, by_frame(recording["x_T"])
    job = recorded_job(recording, backbone, first)
    host = recorded_host(recording, backbone, published_chunks=True)  # denoises the first frame to its end
    draws = Draws(first, torch.zeros(job.shape))
    with host.attach(backbone, job, draws=draws) as session:
        session.start()
    timesteps = recording["pass1_timesteps"].tolist()
    assert list(job.timesteps) == timesteps == list(session.first_frames)
    for timestep, theirs in zip(timesteps, recording["pass1_latents"], strict=False):
        assert difference(session.first_frames[timestep], theirs) <= LATENTS
    lower, upper = session.levels()
    assert (lower, upper) == (timesteps[::-1][meta["t0"]], timesteps[::-1][meta["t1"]])
    assert difference(session.first_frames[upper], recording["x_t1_first"]) <= LATENTS
    assert difference(session.first_frames[lower], recording["x_t0_first"]) <= LATENTS
    alpha = PublishedMotion().alpha_between(golden.SCHEDULE, lower, upper)
    assert alpha == pytest.approx(recording["alpha_prod"].item(), rel=JUMP)
    warped = by_frame(recording["warped_x_t0"])
    shifts = [session._shift(number) for number in range(1, len(warped) + 1)]
    copies = recording["x_t0_first"].expand(len(warped), -1, -1, -1)
    assert torch.equal(motion.shifted(copies, shifts), warped)


def recorded_draws(recording, chunks):
    thrown = [by_frame(recording[f"chunk{chunk}_ddpm_noise"]) for chunk in range(chunks)]
    return Draws(by_frame(recording["chunk0_x_T"]), torch.cat(thrown))


@chunked
def test_a_clip_in_the_demo_s_chunks(recording, backbone):
    meta = recording.meta
    pieces = meta["chunk_frame_ids"]
    job = recorded_job(recording, backbone, by_frame(recording["chunk0_x_T"]), batch=meta["chunk_size"])
    draws = recorded_draws(recording, len(pieces))
    host = recorded_host(recording, backbone, published_chunks=True)
    ours = Draws.of(job, DemoClip())  # the published code draws on the CPU as well
    assert_close(ours.first, draws.first)  # normal numbers are made of uniform ones by functions that round
    assert_close(ours.thrown, draws.thrown)
    with host.attach(backbone, job, draws=draws) as session:
        start, timesteps = session.start()
        *_, (_, latents) = sample(start, session.predict_noise, backbone.schedule, timesteps)
    starts = torch.cat([recording[f"chunk{chunk}_x_t1"][1:] for chunk in range(len(pieces))])
    ends = torch.cat([recording[f"chunk{chunk}_x_0"][1:] for chunk in range(len(pieces))])
    print(f"start {difference(start, starts):.1e}, end {difference(latents, ends):.1e}")
    assert difference(start, starts) <= LATENTS
    assert difference(latents, ends) <= LATENTS
    for chunk in range(len(pieces)):
        assert difference(session.first_frames[timesteps[0]], recording[f"chunk{chunk}_x_t1"][:1]) <= LATENTS
    check_pictures(backbone.decode(latents), recording)


@dataclass(frozen=True, kw_only=True)
class WatchedControl(Control):
    """A control that leaves its residuals with the taps."""

    taps: Taps

    def residuals(self, *args):
        found = super().residuals(*args)
        self.taps.seen |= {"controlnet.down_res_last": found.down[-1], "controlnet.mid_res": found.mid}
        return found


@controlled
def test_a_clip_from_a_control(recording, fresh):
    net = load_control(golden.model(CONTROL), fresh)
    first, taps = recording["x_T_single"], Taps(recording)
    control = WatchedControl(
        net=net.net,
        maps=recording["condition_u8"][:, None],
        scale=recording.meta["controlnet_conditioning_scale"],
        taps=taps,
    )
    job = recorded_job(recording, fresh, first, control=control)
    raw = Raw(fresh, taps)
    draws = Draws(first, first[:0])
    with recorded_host(recording, fresh).attach(raw, job, draws=draws) as session:
        taps.watch(fresh.unet, "attn1.")
        taps.watch(net.net, "controlnet.attn1.")
        latents, timesteps = session.start()
        assert list(timesteps) == recording["timesteps"].tolist()
        latents, errors = run(session, latents, timesteps, fresh, taps, recording["latents"])
    print(f"latents, by step: {', '.join(f'{error:.1e}' for error in errors)}")
    assert max(errors) <= LATENTS
    check_taps(taps, recording)
    check_pictures(fresh.decode(latents), recording)
