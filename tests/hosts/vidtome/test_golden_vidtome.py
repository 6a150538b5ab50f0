"""VidToMe against tensors recorded from its published implementation (golden/vidtome/README.md)."""

from dataclasses import dataclass, field

import pytest
import torch

from closeness import NETWORK, difference
from evenreel.backbones import load_backbone
from evenreel.diffusion.inversion import invert
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.trajectory import Trajectory
from evenreel.hosts.base import EditJob
from evenreel.hosts.injection import InjectionState, SourceAttention, features_injected
from evenreel.hosts.vidtome import merging as merging_module
from evenreel.hosts.vidtome.chunks import ChunkPlan, arrange
from evenreel.hosts.vidtome.host import VidToMeHost
from evenreel.hosts.vidtome.merging import (
    MergedAttention,
    MergeSettings,
    MergingState,
    merge_global,
    split_frames,
)
from evenreel.hosts.windows import cut
from evenreel.ops import matching
from evenreel.ops.matching import match
from hosts import golden
from hosts.jobs import Around

INVERSION, FIRST_STEP, ALL_STEPS, FRAMES, ATTENTION = NETWORK, 2e-4, 1e-3, 2e-4, 1e-5
TIE = 2 * torch.finfo(torch.float32).eps
"""Two similarities near 1 that differ by no more may change places on another processor."""

units = pytest.mark.parametrize("recording", golden.cases("vidtome", "local0."))
layers_alone = pytest.mark.parametrize("recording", golden.cases("vidtome", "attn1."))
edits = pytest.mark.parametrize("recording", golden.cases("vidtome", "edit.latents"))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


@units
def test_local_matching_is_exact(recording):
    for case in recording.meta["local"]:
        tensors = {
            name: recording[f"{case['case']}.{name}"] for name in ("metric", "x", "merged", "y", "unmerged")
        }
        stride = min(case["stride"], case["F"])
        sources, destinations = split_frames(
            case["unm"], case["F"], case["t"], stride, case["rand_frame"], torch.device("cpu")
        )
        assert torch.equal(sources, recording[f"{case['case']}.src_positions"])
        assert torch.equal(destinations, recording[f"{case['case']}.dst_positions"])
        merge = match(tensors["metric"], sources, destinations, case["ratio"], aligned=case["align"])
        assert torch.equal(merge.apply(tensors["x"]), tensors["merged"])
        assert torch.equal(merge.undo(tensors["y"]), tensors["unmerged"])
        assert torch.equal(merge.undo(merge.apply(tensors["x"])), recording[f"{case['case']}.roundtrip"])


@units
def test_global_matching_is_exact(recording):
    for case in recording.meta["global"]:
        name, first = case["case"], case["chunk"] == 0
        both = recording[f"{name}.tokens"]
        sources, destinations = both[:, : case["ls"]], both[:, case["ls"] :]
        own, earlier = (sources, destinations) if first else (destinations, sources)
        merge, merged, part = merge_global(
            own, earlier, 0.9 if first else 0.1, merging(case, ratio=case["ratio"])
        )
        assert torch.equal(merged, recording[f"{name}.merged"])
        assert torch.equal(merge.undo(recording[f"{name}.y"])[:, part], recording[f"{name}.unmerged"])
        assert torch.equal(merge.undo(merged)[:, part], recording[f"{name}.roundtrip"])


def merging(case, *, ratio):
    return MergeSettings(
        local_ratio=case.get("local", 1.0),
        global_ratio=ratio,
        global_rand=case.get("rand", 0.5),
        merge_global=case.get("merge_global", True),
        aligned=case["align"],
        max_downsample=2,
    )


@units
def test_chunks_are_exact(recording):
    for case in recording.meta["chunks"]:
        pieces = cut(case["frames"], case["chunk_size"], case["first_len_draw"])
        # Without global merging nothing passes between chunks and the published code leaves their order alone.
        order = case["chunk_ord"] if case["merge_global"] else "seq"
        permutation = case["perm_draw"] or list(range(len(pieces)))
        assert [list(p) for p in arrange(pieces, case["flip_draw"], permutation, order)] == case["chunks"]


@dataclass
class Recorder:
    """Stands for the attention inside the merging: keeps what comes in, answers what was recorded."""

    answer: torch.Tensor | None = None
    seen: torch.Tensor | None = field(default=None)

    def __call__(self, _attn, hidden_states):
        self.seen = hidden_states
        return self.answer


@units
def test_merging_over_chunks_is_exact(recording):
    for case in recording.meta["sequence"]:
        attention = Recorder()
        state = MergingState(
            merging(case, ratio=case["glob"]), latent_size=tuple(case["latent"]), branches=case["B"]
        )
        layer = MergedAttention(attention, "layer", state)
        for index, (frames, draws) in enumerate(zip(case["frames"], case["draws_per_chunk"], strict=True)):
            prefix = f"{case['case']}.chunk{index}."
            destinations = tuple(draw[1] for draw in draws if draw[0] == "frame")
            coin = next((draw[1] for draw in draws if draw[0] == "coin"), 0.0)
            state.chunk = ChunkPlan(tuple(range(frames)), destinations, coin)
            attention.answer = recording[prefix + "y"]
            assert torch.equal(layer(None, recording[prefix + "x"]), recording[prefix + "unmerged"])
            assert torch.equal(attention.seen, recording[prefix + "merged"])
            if prefix + "global_tokens_after" in recording:
                assert torch.equal(state.global_tokens["layer"], recording[prefix + "global_tokens_after"])


@layers_alone
@torch.no_grad()
def test_injected_attention(recording, backbone):
    name = "up_blocks.2.attentions.0"
    attn = backbone.unet.get_submodule(f"{name}.transformer_blocks.0.attn1")
    for timestep, active in ((901, True), (601, False)):
        state = InjectionState(branches=recording.meta["pnp"]["num_inputs"], attention=active)
        output = SourceAttention(attn.processor, state)(attn, recording[f"attn1.{name}.in"])
        assert difference(output, recording[f"attn1.{name}.out_t{timestep}"]) <= ATTENTION


@layers_alone
@torch.no_grad()
def test_injected_features(recording, backbone):
    name = "up_blocks.1.resnets.1"
    resnet = backbone.unet.get_submodule(name)
    for timestep, active in ((901, True), (601, False)):
        state = InjectionState(branches=recording.meta["pnp"]["num_inputs"], features=active)
        with features_injected(backbone.unet, state):
            output = resnet(recording[f"resnet.{name}.in"], recording[f"resnet.{name}.temb"])
        assert difference(output, recording[f"resnet.{name}.out_t{timestep}"]) <= ATTENTION


def prompts(recording):
    config = recording.meta["config"]
    generation = config["generation"]
    (edit,) = generation["prompt"].values()
    return [config["inversion"]["prompt"], "", generation["negative_prompt"], edit]


def recorded_inversion(recording):
    """Timesteps, descending, and latents of the recorded inversion."""
    timesteps = recording["inversion.timesteps"].tolist()
    latents = dict(zip(timesteps, recording["inversion.latents"], strict=True))
    return sorted(timesteps, reverse=True), latents


@edits
def test_prompts(recording, backbone):
    assert torch.equal(backbone.text.tokenize(prompts(recording)), recording["text.token_ids"])
    embeds = backbone.embed(prompts(recording))
    for row, name in enumerate(("inversion", "pnp_source", "negative", "edit")):
        if f"text.{name}" in recording:
            assert difference(embeds[row : row + 1], recording[f"text.{name}"]) <= INVERSION


@edits
def test_encoding(recording, backbone):
    if "frames" not in recording:
        pytest.skip("this case starts from latents")
    frames = recording["frames"].permute(0, 3, 1, 2) / 255
    assert difference(backbone.encode(frames), recording["latents.source"]) <= INVERSION


@edits
def test_inversion_and_reconstruction(recording, backbone):
    embeds = recording["text.inversion"]
    sampling = backbone.schedule.timesteps(recording.meta["config"]["inversion"]["steps"])
    _, recorded = recorded_inversion(recording)
    inverted = dict(
        invert(
            recording["latents.source"],
            lambda x, t: backbone.predict_noise(x, t, embeds),
            backbone.schedule,
            sampling,
        )
    )
    for timestep, latents in recorded.items():
        assert difference(inverted[timestep], latents) <= INVERSION
    *_, (_, rebuilt) = sample(
        inverted[sampling[0]],
        lambda x, _, t: backbone.predict_noise(x, t, embeds),
        backbone.schedule,
        sampling,
    )
    assert difference(rebuilt, recording["inversion.reconstruction"]) <= ALL_STEPS


def recorded_planner(recording):
    lengths, order = recording["random.chunk_lengths"], recording["random.chunk_frames"]
    destinations, coins = recording["random.dst_frame"], recording["random.coin"]

    def plan(step_index, _frames):
        sizes = [size for size in lengths[step_index].tolist() if size]
        pieces = order[step_index].split(sizes)
        return [
            ChunkPlan(
                tuple(piece.tolist()),
                tuple(d for d in destinations[step_index, chunk].tolist() if d >= 0),
                float(coins[step_index, chunk]),
            )
            for chunk, piece in enumerate(pieces)
        ]

    return plan


def recorded_host(recording):
    generation = recording.meta["config"]["generation"]
    injects = generation["control"] == "pnp"
    return VidToMeHost(
        chunk_size=generation["chunk_size"],
        local_merge_ratio=generation["local_merge_ratio"],
        global_merge_ratio=generation["global_merge_ratio"],
        global_rand=generation["global_rand"],
        merge_global=generation["merge_global"],
        chunk_order=generation["chunk_ord"],
        align_branches=generation["align_batch"],
        max_downsample=recording.meta["max_downsample"],
        pnp_attn=generation["pnp_attn_t"] if injects else 0.0,
        pnp_conv=generation["pnp_f_t"] if injects else 0.0,
    )


def recorded_job(recording):
    _, inverted = recorded_inversion(recording)
    source = Trajectory.of(inverted) if "text.pnp_source" in recording else None
    return EditJob(
        shape=tuple(recording["edit.latents"].shape[1:]),
        timesteps=tuple(recording["edit.timesteps"].tolist()),
        prompt_embeds=recording["text.edit"],
        negative_prompt_embeds=recording["text.negative"],
        source_prompt_embeds=recording["text.pnp_source" if source else "text.negative"],
        source=source,
        guidance_scale=recording.meta["config"]["generation"]["guidance_scale"],
        seed=recording.meta["config"]["seed"],
    )


@edits
def test_whole_edit(recording, backbone, monkeypatch):
    """From each step's recorded latents, as a tie in one step would decide all that follow; then to the end."""
    job, recorded = recorded_job(recording), recording["edit.latents"]
    raw, margins, errors = RawOutputs(backbone), Margins(), []
    monkeypatch.setattr(merging_module, "match", margins.match)
    with recorded_host(recording).attach(raw, job, planner=recorded_planner(recording)) as session:
        for step_index in range(len(job.timesteps)):
            latents = recorded[step_index - 1] if step_index else recording["edit.init"]
            run = sample(latents, session.predict_noise, backbone.schedule, job.timesteps, first=step_index)
            _, latents = next(run)
            errors.append(max(difference(latents, recorded[step_index]), raw.compare(recording, step_index)))
            margins.end_step()
    print(
        f"by step: {', '.join(f'{error:.1e} ({margin:.0e})' for error, margin in zip(errors, margins, strict=True))}"
    )
    assert errors[0] <= FIRST_STEP
    other = [index for index, error in enumerate(errors) if error > ALL_STEPS]
    assert len(other) <= 1
    assert all(margins[index] <= TIE for index in other), "which token is dropped was no matter of rounding"
    shown = difference(backbone.decode(latents), recording["edit.frames"])
    print(f"decoded frames: {shown:.1e}")
    assert shown <= FRAMES


class Margins(list[float]):
    """By how much, in each step, the last token that is dropped resembles its like more than the first that stays."""

    least = 1.0

    def match(self, tokens, sources, destinations, ratio, *, aligned):
        best, _ = matching._nearest(tokens, sources, destinations, aligned=aligned)
        ranked = best.sort(dim=-1, descending=True).values
        dropped = int(len(sources) * ratio)
        if 0 < dropped < len(sources):
            self.least = min(self.least, float((ranked[:, dropped - 1] - ranked[:, dropped]).min()))
        return match(tokens, sources, destinations, ratio, aligned=aligned)

    def end_step(self):
        self.append(self.least)
        self.least = 1.0


class RawOutputs(Around):
    """A backbone that remembers its outputs of the step at hand."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.outputs = []

    def predict_noise(self, *args):
        self.outputs.append(self.inner.predict_noise(*args))
        return self.outputs[-1]

    def compare(self, recording, step_index):
        """The largest difference of a step's outputs from the recorded ones."""
        worst = 0.0
        for chunk, output in enumerate(self.outputs):
            name = f"step{step_index}.chunk{chunk}.noise_pred_raw"
            if name in recording:
                worst = max(worst, difference(output, recording[name].flatten(0, 1)))
        self.outputs.clear()
        return worst
