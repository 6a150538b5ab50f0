"""What an adapter learns from edits, against an edit computed step by step here, on a tiny model."""

from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from random import Random

import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.diffusion import ddim
from evenreel.errors import DataError, SettingsError
from evenreel.hosts.base import Prompts
from evenreel.random import generator
from evenreel.training.adapter import edits, recipes
from evenreel.training.adapter.cycle import asked_for, turned
from evenreel.training.adapter.edits import EditDraws, prepare, timesteps_of
from evenreel.training.adapter.objective import training_in
from evenreel.training.adapter.settings import EditLossSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch
from evenreel.world import ATTRIBUTES, random_scene, render
from evenreel.world.captions import understood
from motion.moving import random_motion

SETTINGS = EditLossSettings(steps=4, window=Window(0.3, 0.9), weight_temporal=0.5, motion="off")
PLAIN = replace(SETTINGS, host_options={"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0})


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


def made_up(groups=2, frames=2):
    rng = torch.Generator().manual_seed(3)
    return Batch(
        frames=torch.rand(groups, frames, 3, 64, 64, generator=rng),
        captions=tuple(f"a ball {index}" for index in range(groups)),
        seeds=tuple(range(5, 5 + groups)),
        keys=tuple(f"clip{index}" for index in range(groups)),
    )


def rendered(seeds=(1, 2, 3)):
    scenes = [random_scene(seed, objects=1) for seed in seeds]
    return Batch(
        frames=torch.stack([render(scene, [0, 2], 64, maps=False).frames for scene in scenes]),
        captions=("as it was said",) * len(seeds),
        seeds=seeds,
        keys=tuple(map(str, seeds)),
        facts=tuple({"scene": asdict(scene), "frames": [0, 2]} for scene in scenes),
    )


def new_adapter(backbone, *, moved=False, tokens=False):
    settings = AdapterSettings(
        lora=LoraSettings(scope="all"),
        tokens=PromptTokenSettings(shared=2, select="none") if tokens else None,
    )
    rng = torch.Generator().manual_seed(0)
    adapter = Adapter.of(backbone, settings, generator=rng)
    if moved:
        with torch.no_grad():
            for path in adapter.lora.shapes:
                second = adapter.lora.factors(path)[1]
                second.copy_(0.1 * torch.randn(second.shape, generator=rng))
    return adapter


def test_the_loss_is_that_of_an_edit_step_by_step(backbone):
    """FlowEdit with noise in pairs: steps above the window without the adapter, steps inside with it."""
    batch, adapter = made_up(), new_adapter(backbone, moved=True)
    begun = prepare(batch, Encoded(backbone, None), PLAIN)
    begun = replace(begun, answers=begun.latents.roll(1, 2))
    before, inside = timesteps_of(PLAIN, backbone)
    schedule, told = backbone.schedule, backbone.schedule.timesteps(4)
    levels = [*map(schedule.alpha, told), schedule.final_alpha_cumprod]
    empty = backbone.embed([""])
    with training_in(backbone, adapter, PLAIN) as trainee, torch.no_grad():
        clips = begun.latents.chunk(2)
        made = [clip.clone() for clip in clips]
        for index, (timestep, (here, below)) in enumerate(zip(told, pairwise(levels), strict=True)):
            if timestep < inside[-1]:
                break
            parts = []
            if timestep in inside:  # the trainee is a step ahead: what it does to the model counts for both
                loss, figures = trainee(replace(begun, step=inside.index(timestep)))
            for group, clip in enumerate(clips):
                drawn_at = told[index - index % 2]
                noise = torch.randn(clip.shape[1:], generator=generator(begun.seeds[0], drawn_at, 0))
                seen = ddim.add_noise(clip, (-1) ** index * noise[None], here)
                noisy = seen + here**0.5 * (made[group] - clip)
                text = begun.text[group : group + 1]
                trainee._turn(on=False)
                of_source = backbone.predict_noise(seen, timestep, begun.source_text[group : group + 1])
                trainee._turn(on=timestep in inside)
                uncond, cond = (backbone.predict_noise(noisy, timestep, rows) for rows in (empty, text))
                guided = uncond + begun.guidance_scales[0] * (cond - uncond)
                left, lower = ((1 / level - 1) ** 0.5 for level in (here, below))
                leads_to = made[group] - left * (guided - of_source)
                made[group] = made[group] + (lower - left) * (guided - of_source)
                error = leads_to - begun.answers.chunk(2)[group]
                parts.append((error.square().mean(), (error[1:] - error[:-1]).square().mean()))
            trainee._turn(on=True)
            if timestep not in inside:
                assert timestep in before
                continue
            weight = min(1 / (1 - here), 5) * here / (here + 0.1)
            edit, temporal = (weight * torch.stack(part).mean() for part in zip(*parts, strict=True))
            assert figures["edit"].item() == pytest.approx(edit.item(), rel=1e-3)
            assert figures["temporal"].item() == pytest.approx(temporal.item(), rel=1e-3)
            assert loss.item() == pytest.approx((edit + 0.5 * temporal).item(), rel=1e-3)


@pytest.mark.parametrize("moving", [True, False])
def test_groups_side_by_side_are_what_each_is_by_itself(moving, backbone, monkeypatch):
    """Each has words, motion and changes from frame to frame of its own; only the noise is drawn along all frames."""
    told = partial(edits.FlowEditInversion, shared_noise=True)
    monkeypatch.setattr(edits, "FlowEditInversion", told)
    modules = random_motion(backbone.unet) if moving else None
    batch, adapter = made_up(groups=3), new_adapter(backbone, moved=True)
    batch = replace(batch, seeds=(5, 5, 5))
    captions = [("a ball", "a red ball"), ("two balls", "two cubes"), ("a ball on a lawn", "a cube on snow")]
    encoded = Encoded(backbone, None)

    def begun(groups):
        chosen = replace(
            batch,
            frames=batch.frames[groups],
            captions=batch.captions[: len(groups)],
            seeds=batch.seeds[: len(groups)],
            keys=tuple(batch.keys[group] for group in groups),
        )
        sources, prompts = zip(*(captions[group] for group in groups), strict=True)
        prepared = prepare(chosen, encoded, SETTINGS)
        return replace(
            prepared,
            answers=prepared.latents.roll(1, 2),
            source_text=encoded.text(sources),
            text=encoded.text(prompts),
            prompts=tuple(Prompts(source, prompt) for source, prompt in zip(sources, prompts, strict=True)),
        )

    def losses(groups):
        with training_in(backbone, adapter, SETTINGS, modules) as trainee, torch.no_grad():
            steps = [trainee(replace(begun(groups), step=step))[1] for step in range(2)]
        return torch.tensor([[step["edit"], step["temporal"]] for step in steps])

    together, apart = losses([0, 1, 2]), torch.stack([losses([group]) for group in range(3)]).mean(0)
    assert_close(together, apart, within=1e-4)


@pytest.mark.parametrize("host", ["frame", "vidtome", "tokenflow"])
def test_edits_are_made_in_a_host_with_motion_modules(host, backbone):
    """What a host injects, and modules that let frames see each other, change what is learnt, not the model."""
    modules, losses = random_motion(backbone.unet), []
    for told, moving in ((SETTINGS, None), (replace(SETTINGS, host=host), modules), (PLAIN, None)):
        adapter = new_adapter(backbone, moved=True)
        with training_in(backbone, adapter, told, moving) as trainee:
            loss, _ = trainee(prepare(made_up(), Encoded(backbone, None), told))
            loss.backward()
        assert all(value.grad is not None for value in adapter.parameters())
        losses.append(loss.item())
    assert len(set(losses)) == 3
    assert not any(module._forward_hooks for module in backbone.unet.modules())


@pytest.mark.parametrize("tokens", [False, True])
def test_gradients_reach_what_is_trained_and_nothing_else(backbone, tokens):
    adapter = new_adapter(backbone, moved=True, tokens=tokens)
    before = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    with training_in(backbone, adapter, SETTINGS) as trainee:
        loss, _ = trainee(prepare(rendered(), Encoded(backbone, None), SETTINGS))
        loss.backward()
        assert all(value.grad is not None for value in adapter.parameters())
        for part in (adapter.lora, adapter.tokens):
            assert part is None or any(value.grad.abs().max() > 0 for value in part.parameters())
    after = backbone.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(value.requires_grad for value in backbone.unet.parameters())


def test_the_right_answer_of_a_scene_is_the_scene_with_attributes_changed(backbone, monkeypatch):
    batch, encoded, asked = rendered(tuple(range(20, 32))), Encoded(backbone, None), []
    monkeypatch.setattr(
        encoded, "text", lambda texts: asked.append(texts) or backbone.embed([""] * len(texts))
    )
    begun = prepare(batch, encoded, SETTINGS)
    sources, prompts, _ = asked
    scenes = [random_scene(seed, objects=1) for seed in range(20, 32)]
    changed = set()
    for index, scene in enumerate(scenes):
        new = understood(prompts[index])
        assert understood(sources[index]) == scene.attributes()
        names = [name for name in ATTRIBUTES if new[name] != scene.attribute(name)]
        assert 1 <= len(names) <= 3
        answer = render(scene.edited(**{name: new[name] for name in names}), [0, 2], 64, maps=False).frames
        assert_close(begun.answers[2 * index : 2 * index + 2], backbone.encode(answer), within=1e-4)
        changed.update(names)
    assert len(changed) > 2


def test_any_other_clip_is_its_own_right_answer(backbone):
    begun = prepare(made_up(), Encoded(backbone, None), SETTINGS)
    assert_close(begun.answers, begun.latents)
    assert torch.equal(begun.text, begun.source_text)


def test_scenes_whose_answers_are_hidden_are_clips_like_any_other(backbone):
    encoded = Encoded(backbone, None)
    begun = prepare(rendered(), encoded, replace(SETTINGS, answers="none"))
    assert_close(begun.answers, begun.latents)
    assert torch.equal(begun.text, begun.source_text)
    known = prepare(rendered(), encoded, SETTINGS)
    assert torch.equal(known.latents, begun.latents)
    assert_apart(known.answers, begun.answers)


def test_the_way_back_is_that_of_the_models_own_edit(backbone):
    """What is made has the other clip's caption, without the adapter; its right answer is the clip."""
    told, encoded = replace(SETTINGS, answers="cycle"), Encoded(backbone, None)
    batch = made_up()
    there = prepare(batch, encoded, told, captions=batch.captions)
    assert [prompts.edit for prompts in there.prompts] == ["a ball 1", "a ball 0"]
    assert torch.equal(there.text, encoded.text(["a ball 1", "a ball 0"]))
    made = []
    for moved in (False, True):
        with training_in(backbone, new_adapter(backbone, moved=moved), told) as trainee:
            trainee._turn(on=False)
            made.append(trainee._edited(there))
    assert torch.equal(*made)
    assert_apart(made[0], there.latents)
    back = turned(there, made[0])
    assert torch.equal(back.latents, made[0])
    assert torch.equal(back.answers, there.latents)
    assert torch.equal(back.text, there.source_text)
    assert [(one.source, one.edit) for one in back.prompts] == [
        ("a ball 1", "a ball 0"),
        ("a ball 0", "a ball 1"),
    ]
    losses = []
    for answers, begun in (("cycle", there), ("known", back)):
        adapter = new_adapter(backbone, moved=True)
        with training_in(backbone, adapter, replace(told, answers=answers)) as trainee:
            loss, _ = trainee(begun)
            loss.backward()
        assert all(value.grad is not None for value in adapter.parameters())
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_nearest_of_other_captions_is_asked_for():
    told = ["a red ball on grass", "a red ball on a lawn", "a blue ball on grass", "two cubes in the sea"]
    own = {told[0], told[1]}
    assert asked_for(told[0], own, told, Random(0)) == "a blue ball on grass"
    with pytest.raises(DataError, match="no clip has another caption than the one that is edited"):
        asked_for(told[0], own, told[:2], Random(0))


def test_clips_that_the_model_makes_have_no_tokens():
    with pytest.raises(SettingsError, match="edit_answers cycle learns from clips that the model makes"):
        recipes.adapter("edits", edit_answers="cycle", frame_tokens="average")
    assert recipes.adapter("edits", edit_answers="cycle", shared_tokens=2).loss.answers == "cycle"


def test_steps_of_an_edit_follow_each_other_and_then_the_next_begins(backbone):
    drawn = []

    def draw(number):
        drawn.append(number)
        return replace(made_up(1), seeds=(number,))

    draws = EditDraws(draw, Encoded(backbone, None), SETTINGS, accumulation=2)
    assert draws.length == len(timesteps_of(SETTINGS, backbone)[1]) == 2
    told = [(draws(number).slot, draws(number).step) for number in range(8)]
    assert told == [(0, 0), (1, 0), (0, 1), (1, 1)] * 2
    assert drawn == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_scale": (3.0, 2.0)},
        {"guidance_scale": (-1.0, 2.0)},
        {"steps": 0},
        {"weight_temporal": -1.0},
    ],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError):
        EditLossSettings(**wrong)


def test_a_window_without_steps(backbone):
    with pytest.raises(SettingsError, match="none of the 2 steps"):
        timesteps_of(EditLossSettings(steps=2, window=Window(0.9, 0.95)), backbone)
