"""What an adapter learns from edits, against an edit computed step by step here, on a tiny model."""

from dataclasses import asdict, replace

import pytest
import torch

from closeness import NETWORK, assert_close
from evenreel.adapters.adapter import Adapter, AdapterSettings
from evenreel.adapters.lora import LoraSettings
from evenreel.adapters.prompt_tokens import PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.diffusion import ddim
from evenreel.errors import SettingsError
from evenreel.training.adapter.edits import EditDraws, EditLossSettings, prepare
from evenreel.training.adapter.encoded import Encoded
from evenreel.training.adapter.objective import training_in
from evenreel.training.data.shards import Batch
from evenreel.world import ATTRIBUTES, random_scene, render
from evenreel.world.captions import understood

SETTINGS = EditLossSettings(steps=4, window=Window(0.3, 0.9), weight_temporal=0.5)


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


def made_up(groups=2, frames=2):
    generator = torch.Generator().manual_seed(3)
    return Batch(
        frames=torch.rand(groups, frames, 3, 64, 64, generator=generator),
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
    generator = torch.Generator().manual_seed(0)
    adapter = Adapter.of(backbone, settings, generator=generator)
    if moved:
        with torch.no_grad():
            for path in adapter.lora.shapes:
                second = adapter.lora.factors(path)[1]
                second.copy_(0.1 * torch.randn(second.shape, generator=generator))
    return adapter


def test_the_loss_is_that_of_an_edit_step_by_step(backbone):
    """Inversion and steps above the window without the adapter, steps inside with it, each from the one before."""
    batch, adapter = made_up(), new_adapter(backbone, moved=True)
    begun = prepare(batch, Encoded(backbone, None), SETTINGS)
    before, inside = SETTINGS.timesteps(backbone)
    schedule, told = backbone.schedule, backbone.schedule.timesteps(4)
    text, source, empty = (
        backbone.embed(prompts) for prompts in (["a ball 0", "a ball 1"], ["a ball 0", "a ball 1"], [""])
    )
    noisy, alpha, guesses = backbone.encode(batch.frames.flatten(0, 1)), schedule.final_alpha_cumprod, []
    answers = noisy.clone()
    for timestep in reversed(told):
        alpha_to, guess = schedule.alpha(timestep), noisy
        if guesses:
            noise = guesses[-1] if len(guesses) == 1 else 2 * guesses[-1] - guesses[-2]
            guess = ddim.step(noisy, noise, alpha, alpha_to)
        guesses.append(backbone.predict_noise(guess, timestep, source.repeat_interleave(2, 0)))
        noisy, alpha = ddim.step(noisy, guesses[-1], alpha, alpha_to), alpha_to

    def guided(noisy, timestep):
        uncond = backbone.predict_noise(noisy, timestep, empty)
        cond = backbone.predict_noise(noisy, timestep, text.repeat_interleave(2, 0))
        return uncond + begun.guidance_scale * (cond - uncond)

    for timestep, following in zip(told, [*told[1:], -1], strict=True):
        if timestep not in inside:
            if timestep in before:
                noisy = ddim.step(
                    noisy, guided(noisy, timestep), schedule.alpha(timestep), schedule.alpha(following)
                )
            continue
        with training_in(backbone, adapter, SETTINGS) as trainee:
            if timestep != inside[0]:
                trainee._edits[0] = noisy
            loss, figures = trainee(replace(begun, step=inside.index(timestep)))
            with torch.no_grad():
                noise_pred = guided(noisy, timestep)
        alpha = schedule.alpha(timestep)
        error = ddim.pred_original_sample(noisy, noise_pred, alpha) - answers
        weight = min(1 / (1 - alpha), 5) * alpha / (alpha + 0.1)
        edit = weight * error.square().mean()
        temporal = weight * (error[1::2] - error[::2]).square().mean()
        assert figures["edit"].item() == pytest.approx(edit.item(), rel=1e-3)
        assert figures["temporal"].item() == pytest.approx(temporal.item(), rel=1e-3)
        assert loss.item() == pytest.approx((edit + 0.5 * temporal).item(), rel=1e-3)
        noisy = ddim.step(noisy, noise_pred, alpha, schedule.alpha(following))
        assert_close(trainee._edits[0], noisy, NETWORK)


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


def test_the_right_answer_of_a_scene_is_the_scene_with_one_attribute_changed(backbone, monkeypatch):
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
        assert len(names) == 1
        answer = render(scene.edited(**{names[0]: new[names[0]]}), [0, 2], 64, maps=False).frames
        assert_close(begun.answers[2 * index : 2 * index + 2], backbone.encode(answer), within=1e-4)
        changed.add(names[0])
    assert len(changed) > 2


def test_any_other_clip_is_its_own_right_answer(backbone):
    begun = prepare(made_up(), Encoded(backbone, None), SETTINGS)
    assert_close(begun.answers, begun.latents)
    assert torch.equal(begun.text, begun.source_text)


def test_steps_of_an_edit_follow_each_other_and_then_the_next_begins(backbone):
    drawn = []

    def draw(number):
        drawn.append(number)
        return replace(made_up(1), seeds=(number,))

    draws = EditDraws(draw, Encoded(backbone, None), SETTINGS, accumulation=2)
    assert draws.length == len(SETTINGS.timesteps(backbone)[1]) == 2
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
        EditLossSettings(steps=2, window=Window(0.9, 0.95)).timesteps(backbone)
