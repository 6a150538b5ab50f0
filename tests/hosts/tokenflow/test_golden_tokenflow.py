"""TokenFlow against tensors recorded from its published implementation (golden/tokenflow/README.md)."""

import re
from dataclasses import dataclass, field

import pytest
import torch

from closeness import NETWORK, assert_close, difference
from evenreel.backbones import hooks, layers, load_backbone
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.trajectory import Trajectory
from evenreel.hosts.base import EditJob
from evenreel.hosts.injection import InjectionState, features_injected
from evenreel.hosts.tokenflow.host import TokenFlowHost
from evenreel.hosts.tokenflow.keyframes import published_flows, windows
from evenreel.hosts.tokenflow.propagation import (
    Kept,
    PropagatedAttention,
    PropagationState,
    propagate,
    resemblance,
)
from evenreel.ops.correspondence import directions, nearest
from hosts import golden
from hosts.jobs import Around

INVERSION, FIRST_STEP, ALL_STEPS, FRAMES, UNIT = NETWORK, 2e-4, 1e-3, 2e-4, 1e-5
TIE = 1e-5
"""Two keyframe tokens whose cosines differ by less may be taken for one another."""

units = pytest.mark.parametrize("recording", golden.cases("tokenflow", "propagate"))
layers_alone = pytest.mark.parametrize("recording", golden.cases("tokenflow", "attn1."))
edits = pytest.mark.parametrize("recording", golden.cases("tokenflow", "edit.latents"))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


@units
def test_propagation(recording):
    for (case,) in golden.matching(recording.names, r"(propagate\d+)\.kf_norm_hidden"):
        hidden, output = recording[f"{case}.kf_norm_hidden"], recording[f"{case}.kf_attn_out"]
        state = PropagationState(InjectionState(branches=len(hidden)), resemblance, source_takes=True)
        for keyframe in range(hidden.shape[1]):
            state.kept[keyframe] = {"layer": Kept(directions(hidden[0, keyframe]), output[:, keyframe])}
        for (number,) in golden.matching(recording.names, rf"{case}\.batch(\d+)\.norm_hidden"):
            window, prefix = int(number), f"{case}.batch{number}."
            source = recording[prefix + "norm_hidden"][0]
            size = len(source)
            state.frames = tuple(range(window * size, (window + 1) * size))
            # In this file a keyframe has the number of its window.
            flows = published_flows(
                state.frames, range(hidden.shape[1]), windows(hidden.shape[1] * size, size)
            )
            ours = propagate("layer", source, flows, state)
            assert difference(ours, recording[prefix + "out"]) <= UNIT
            for flow in flows:
                name = "match_cur" if flow.keyframe == window else "match_prev"
                matches = nearest(directions(source), state.kept[flow.keyframe]["layer"].keys)
                assert torch.equal(matches, recording[prefix + name])
                if name == "match_cur" and window > 0:
                    assert_close(torch.tensor(flow.weights), recording[prefix + "w_cur"])


def installed(backbone, state):
    """The attention of the host with a state of our own."""
    unet = backbone.unet
    injects = layers.decoder_self_attentions(unet)
    return {
        name: PropagatedAttention(unet.attn_processors[name], name, state, injects=name in injects)
        for name in layers.self_attentions(unet)
    }


def active(recording, timestep):
    return timestep in recording.meta["block"]["injection_timesteps"]


@layers_alone
@torch.no_grad()
def test_attention_of_keyframes(recording, backbone):
    for layer, timestep in golden.matching(recording.names, r"attn1\.(.+)\.out_t(\d+)"):
        tokens = recording[f"attn1.{layer}.in"]
        injecting = InjectionState(branches=3, attention=active(recording, int(timestep)))
        state = PropagationState(
            injecting, resemblance, source_takes=True, frames=tuple(range(len(tokens) // 3))
        )
        attn = backbone.unet.get_submodule(f"{layer}.transformer_blocks.0.attn1")
        output = installed(backbone, state)[f"{layer}.transformer_blocks.0.attn1.processor"](attn, tokens)
        assert difference(output, recording[f"attn1.{layer}.out_t{timestep}"]) <= UNIT


@layers_alone
@torch.no_grad()
def test_injected_features(recording, backbone):
    for name, timestep in golden.matching(recording.names, r"resnet\.(.+)\.out_t(\d+)"):
        assert name == layers.injection_resnet(backbone.unet)[0]
        resnet = backbone.unet.get_submodule(name)
        state = InjectionState(branches=3, features=active(recording, int(timestep)))
        with features_injected(backbone.unet, state):
            output = resnet(recording[f"resnet.{name}.in"], recording[f"resnet.{name}.temb"])
        assert difference(output, recording[f"resnet.{name}.out_t{timestep}"]) <= UNIT


@layers_alone
@torch.no_grad()
def test_whole_block(recording, backbone):
    case = recording.meta["block"]
    size, keyframes = case["frames_per_batch"], case["keyframes"]
    block = backbone.unet.get_submodule(f"{case['layer']}.transformer_blocks.0")
    for (timestep,) in golden.matching(recording.names, r"block\.t(\d+)\.pivot\.hidden"):
        injecting = InjectionState(branches=3, attention=active(recording, int(timestep)))
        state = PropagationState(injecting, resemblance, source_takes=True)
        with hooks.processors_installed(backbone.unet, installed(backbone, state)):
            for part in ("pivot", *(f"batch{window}" for window in range(keyframes))):
                prefix = f"block.t{timestep}.{part}."
                state.frames, state.flows = tuple(range(keyframes)), None
                if part != "pivot":
                    first = int(part.removeprefix("batch")) * size
                    state.frames = tuple(range(first, first + size))
                    state.flows = published_flows(
                        state.frames, range(keyframes), windows(keyframes * size, size)
                    )
                output = block(recording[prefix + "hidden"], encoder_hidden_states=recording[prefix + "text"])
                assert difference(output, recording[prefix + "out"]) <= UNIT


def recorded_inversion(recording):
    return dict(zip(recording["inversion.timesteps"].tolist(), recording["inversion.latents"], strict=True))


@edits
def test_prompts(recording, backbone):
    config = recording.meta["config"]
    prompts = [config["inversion_prompt"], config["negative_prompt"], config["prompt"]]
    assert torch.equal(backbone.text.tokenize(prompts), recording["text.token_ids"])
    for embeds, name in zip(backbone.embed(prompts), ("inversion", "negative", "edit"), strict=True):
        assert difference(embeds[None], recording[f"text.{name}"]) <= INVERSION


@edits
def test_encoding(recording, backbone):
    if "frames" not in recording:
        pytest.skip("this case starts from latents")
    frames = recording["frames"].permute(0, 3, 1, 2) / 255
    assert difference(backbone.encode(frames), recording["latents.source"]) <= INVERSION


@edits
def test_inversion_and_reconstruction(recording, backbone):
    embeds = recording["text.inversion"]
    timesteps = backbone.schedule.timesteps(recording.meta["config"]["inv_steps"])
    inverted = dict(
        invert(
            recording["latents.source"],
            lambda x, t: backbone.predict_noise(x, t, embeds),
            backbone.schedule,
            timesteps,
        )
    )
    for timestep, latents in recorded_inversion(recording).items():
        assert difference(inverted[timestep], latents) <= INVERSION
    *_, (_, rebuilt) = sample(
        inverted[timesteps[0]],
        lambda x, _, t: backbone.predict_noise(x, t, embeds),
        backbone.schedule,
        timesteps,
    )
    assert difference(rebuilt, recording["inversion.reconstruction"]) <= ALL_STEPS


def recorded_host(recording):
    config = recording.meta["config"]
    settings = {"mode": config["kind"], "window": config["batch_size"], "published": True}
    names = {"pnp_attn_t": "pnp_attn", "pnp_f_t": "pnp_conv", "start": "start"}
    settings |= {ours: config[theirs] for theirs, ours in names.items() if theirs in config}
    return TokenFlowHost(**settings)


def recorded_job(recording, backbone):
    config = recording.meta["config"]
    return EditJob(
        shape=tuple(recording["latents.source"].shape),
        timesteps=backbone.schedule.timesteps(config["n_timesteps"]),
        prompt_embeds=recording["text.edit"],
        negative_prompt_embeds=recording["text.negative"],
        source_prompt_embeds=recording["text.inversion"],
        source=Trajectory.of(recorded_inversion(recording)),
        clean=recording["latents.source"],
        guidance_scale=config["guidance_scale"],
        seed=config["seed"],
        batch=config["batch_size"],
    )


@edits
def test_start(recording, backbone):
    with recorded_host(recording).attach(backbone, recorded_job(recording, backbone)) as session:
        latents, timesteps = session.start()
    assert list(timesteps) == recording["edit.timesteps"].tolist()
    assert difference(latents, recording["edit.init"]) <= INVERSION


@edits
def test_whole_edit(recording, backbone):
    """With our own matches; where these differ in a tie, once more with the recorded ones."""
    replay = Replay(recording)
    run = run_edit(recording, backbone, replay)
    print(f"own matches: {run}; {replay}")
    if not run.passes:
        assert replay.different, "the matches agree, and yet the latents do not"
        assert replay.widest_tie <= TIE, "the first matches that differ are no ties"
        replay = Replay(recording, recorded=True)
        run = run_edit(recording, backbone, replay)
        print(f"recorded matches: {run}")
    assert run.passes, str(run)
    assert replay.compared == replay.expected


@dataclass
class Run:
    """How far an edit is from the recorded one."""

    steps: list[float] = field(default_factory=list)
    named: dict[str, float] = field(default_factory=dict)
    frames: float = 0.0

    @property
    def passes(self):
        close = self.steps[0] <= FIRST_STEP and max(self.steps) <= ALL_STEPS and self.frames <= FRAMES
        return close and max(self.named.values(), default=0.0) <= ALL_STEPS

    def __str__(self):
        worst = max(self.named, key=self.named.get, default="nothing")
        by_step = ", ".join(f"{error:.1e}" for error in self.steps)
        return (
            f"latents, by step: {by_step}; decoded frames: {self.frames:.1e}; of {len(self.named)} named "
            f"tensors worst {worst}: {self.named.get(worst, 0.0):.1e}"
        )


def run_edit(recording, backbone, replay):
    run, seen = Run(), Watch(backbone, recording)
    job = recorded_job(recording, backbone)
    job_timesteps = tuple(recording["edit.timesteps"].tolist())
    host = recorded_host(recording)
    with host.attach(seen, job, draw=replay.draw, matcher=replay.matcher) as session, seen.watching():

        def predict(latents, step_index, timestep):
            noise_pred = session.predict_noise(latents, step_index, timestep)
            run.named |= seen.compare(step_index, noise_pred)
            return noise_pred

        steps = sample(recording["edit.init"], predict, backbone.schedule, job_timesteps)
        for step_index, (_, latents) in enumerate(steps):
            run.steps.append(difference(latents, recording["edit.latents"][step_index]))
    assert seen.compared == {name for name in recording.names if re.match(r"step\d", name)}
    run.frames = difference(backbone.decode(latents), recording["edit.frames"])
    return run


class Replay:
    """The recorded keyframes; matches, compared with the recorded ones or taken from them."""

    def __init__(self, recording, *, recorded=False):
        self.recording, self.recorded = recording, recorded
        self.keyframes = recording["random.keyframes"].tolist()
        self.size = recording.meta["config"]["batch_size"]
        self.matches = {name: recording[name].long() for name in recording.names if name.startswith("match.")}
        self.expected = sum(matches.numel() for matches in self.matches.values())
        self.step, self.compared, self.different, self.widest_tie = 0, 0, 0, 0.0
        self.first = None

    def __str__(self):
        return f"{self.different} of {self.compared} matches differ, the first by {self.widest_tie:.1e}"

    def draw(self, step_index, _frames):
        self.step = step_index
        return self.keyframes[step_index]

    def matcher(self, layer, keyframe, frames, tokens, kept):
        theirs = torch.stack([self.of_frame(layer, keyframe, frame) for frame in frames])
        ours = nearest(tokens, kept.keys)
        self.compared += ours.numel()
        differ = ours != theirs
        # Matches that differ change all later tokens, so only the first layer that has any says whether they are ties.
        if differ.any() and self.first in (None, (self.step, layer)):
            self.first = (self.step, layer)
            cosines = tokens @ kept.keys.mT
            gap = cosines.gather(-1, ours[..., None]) - cosines.gather(-1, theirs[..., None])
            self.widest_tie = max(self.widest_tie, gap[differ].max().item())
        self.different += int(differ.sum())
        return theirs if self.recorded else ours

    def of_frame(self, layer, keyframe, frame):
        block = layer.removesuffix(".transformer_blocks.0.attn1.processor")
        window, own = frame // self.size, self.keyframes[self.step].index(keyframe)
        if window == own:
            return self.matches[f"match.{block}.cur"][self.step, window, frame % self.size]
        assert own == window - 1
        return self.matches[f"match.{block}.prev"][self.step, own, frame % self.size]


class Watch(Around):
    """A backbone that keeps what the recording names: its outputs, and those of layers."""

    def __init__(self, backbone, recording):
        super().__init__(backbone)
        self.recording, self.compared = recording, set()
        self.calls, self.layers = [], {}

    def predict_noise(self, *args, **kwargs):
        self.layers = {}
        output = self.inner.predict_noise(*args, **kwargs)
        self.calls.append((output, self.layers))
        return output

    def watching(self):
        """Keep inputs and outputs of the modules that the recording names, while inside."""
        modules = {
            **{name: f"{block}.transformer_blocks.0" for name, block in self.named(r"(.+)\.block_in")},
            **{
                name: f"{block}.transformer_blocks.0.attn1" for name, block in self.named(r"(.+)\.after_attn")
            },
            **{
                name: f"{block}.transformer_blocks.0.attn1"
                for name, block in self.named(r"(.+)\.attn1\.(?:in|out)")
            },
            **dict(self.named(r"(.+\.resnets\.\d+)\.out")),
        }
        return Hooked(self, modules)

    def named(self, pattern):
        found = (re.fullmatch(rf"step\d+\.\w+\.({pattern})", name) for name in self.recording.names)
        return {(match[1], match[2]) for match in found if match}

    def compare(self, step_index, noise_pred):
        differences = {}
        for call, (raw, kept) in enumerate(self.calls):
            part = f"step{step_index}." + ("pivot" if call == 0 else f"batch{call - 1}")
            found = {f"{part}.noise_pred_raw": raw, **{f"{part}.{name}": x for name, x in kept.items()}}
            for name, ours in found.items():
                if name in self.recording:
                    differences[name] = difference(ours, self.recording[name].flatten(0, 1))
        guided = f"step{step_index}.noise_pred_guided"
        if guided in self.recording:
            differences[guided] = difference(noise_pred, self.recording[guided])
        self.calls.clear()
        self.compared |= differences.keys()
        return differences


class Hooked:
    """Forward hooks on modules while inside."""

    def __init__(self, watch, modules):
        self.watch, self.modules, self.handles = watch, modules, []

    def __enter__(self):
        for name, path in self.modules.items():
            module = self.watch.inner.unet.get_submodule(path)
            # attn1's input is its block's after norm1, so the stream that its output joins is the block's input.
            if name.endswith((".block_in", ".attn1.in")):
                hook = module.register_forward_pre_hook(self.keep_input(name))
            elif name.endswith(".after_attn"):
                block = self.watch.inner.unet.get_submodule(path.removesuffix(".attn1"))
                self.handles.append(block.register_forward_pre_hook(self.keep_input(name)))
                hook = module.register_forward_hook(self.keep_output(name, added=True))
            else:
                hook = module.register_forward_hook(self.keep_output(name))
            self.handles.append(hook)

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def keep_input(self, name):
        def keep(_module, inputs):
            self.watch.layers[name] = inputs[0]

        return keep

    def keep_output(self, name, *, added=False):
        def keep(_module, _inputs, output):
            self.watch.layers[name] = self.watch.layers[name] + output if added else output

        return keep
