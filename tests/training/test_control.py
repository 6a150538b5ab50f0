"""Training of ControlNets: nothing is changed before it, the loss reaches the ControlNet alone, maps are exact."""

import json

import pytest
import torch
from diffusers import ControlNetModel

from evenreel.backbones import load_backbone, mini
from evenreel.backbones.control import load_control
from evenreel.errors import SettingsError
from evenreel.ops.edges import canny
from evenreel.training.control.trainee import ControlBatch, ControlTrainee
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.mini.control import PARTS, DrawnControls, exact_maps, held_out
from evenreel.training.mini.parts import MiniTraining
from evenreel.training.mini.recipe import CONTROLS, MiniRecipe, PartRecipe
from evenreel.training.mini.rendering import frames_of
from evenreel.training.mini.scene_data import SceneData
from evenreel.training.mini.start import StartFolder
from evenreel.training.mini.train import train_mini
from evenreel.world import main_mask, random_scene, render
from tiny import WIDTH, tiny_unet

LEVELS = torch.linspace(0.999, 0.01, 1000)
QUICK = LoopSettings(steps=2, warmup=1, optimizer="muon", average=0.5, dtype="float32")


def batch_of(pictures=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (pictures, 4, 8, 8)
    return ControlBatch(
        latents=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.tensor([100, 500, 800])[:pictures],
        prompt_embeds=torch.randn(pictures, 5, WIDTH, generator=generator),
        maps=torch.randint(256, (pictures, 3, 64, 64), generator=generator).byte(),
    )


@pytest.fixture
def trainee():
    unet = tiny_unet()
    return ControlTrainee(unet, ControlNetModel.from_unet(unet), LEVELS)


def test_untrained_it_changes_nothing(trainee):
    batch = batch_of()
    with torch.no_grad():
        with_it, without = trainee.errors(batch), trainee.errors(batch, with_control=False)
    assert torch.equal(with_it, without), "off is bit for bit off"


def test_the_loss_is_what_it_says(trainee):
    batch, alone = batch_of(), tiny_unet()
    with torch.no_grad():
        alpha = LEVELS[batch.timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * batch.noise
        noise_pred = alone(noisy, batch.timesteps, batch.prompt_embeds).sample
        error = (noise_pred - batch.noise).square().mean((1, 2, 3))
        snr = (alpha / (1 - alpha)).flatten()
        loss, figures = trainee(batch)
    assert float(loss) == pytest.approx(float((snr.clamp(max=5) / snr * error).mean()), rel=1e-5)
    assert float(figures["mse"]) == pytest.approx(float(error.mean()), rel=1e-5)
    assert float(figures["mse_high"]) == pytest.approx(float(error[snr < 1].mean()), rel=1e-5)


def test_a_few_steps_lower_the_loss_and_touch_the_base_not(trainee):
    before = {name: value.clone() for name, value in trainee.unet.state_dict().items()}
    optimizer = torch.optim.AdamW(trainee.net.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss, _ = trainee(batch_of())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    reached = {name for name, weight in trainee.net.named_parameters() if bool(weight.grad.abs().sum() > 0)}
    # with one token, as in the tiny model's middle, queries and keys change nothing
    alone = {
        name for name, _ in trainee.net.named_parameters() if "attn1.to_q" in name or "attn1.to_k" in name
    }
    assert reached | alone == {name for name, _ in trainee.net.named_parameters()}
    assert all(torch.equal(value, before[name]) for name, value in trainee.unet.state_dict().items())


def test_nothing_in_forward_waits_for_the_device(trainee):
    meta = trainee.to("meta")
    loss, _ = meta(ControlBatch(*(tensor.to("meta") for tensor in batch_of())))
    assert loss.device.type == "meta"


def recipe(parts=CONTROLS):
    every = {name: PartRecipe(loop=QUICK, batch=3) for name in (*MiniRecipe().parts, *parts)}
    return MiniRecipe(parts=every, scenes=SceneData(count=16, begin=16, chunk=8, captions=2), pool=500)


@pytest.fixture(scope="module")
def made(tmp_path_factory, rendered_here):
    folder = tmp_path_factory.mktemp("mini")
    with rendered_here():
        train_mini(folder, ["control"], recipe=recipe(), device="cpu", start=mini.FOLDER)
    return folder


def test_the_packed_one_is_a_controlnet_for_the_model(made):
    net = load_control(str(made / "control"), load_backbone("mini", device="cpu"))
    assert any(bool(block.weight.any()) for block in net.net.controlnet_down_blocks)
    record = json.loads((made / "model" / "training.json").read_text())["parts"]["control"]
    assert (record["steps"], record["batch"], record["from"]) == (2, 3, "mini")
    assert StartFolder(made / "model").holds("control")


def test_every_kind_is_shown_what_is_true_of_its_picture(made):
    training = MiniTraining(made, recipe=recipe(), device="cpu", start=StartFolder(mini.FOLDER))
    scenes = training.scenes(training.recipe.controlled)
    assert scenes.is_complete, "kept from the training"
    rows = torch.arange(16)
    known = scenes.controls
    for kind in ("depth", "canny"):
        assert known.maps(kind, rows, torch.zeros_like(rows)).shape == (16, 3, 128, 128)
    people = [n for n in range(16) if any(o.shape == "figure" for o in random_scene(n).objects)]
    assert known.people.tolist() == people
    assert people, "the test would see nothing"
    for number in people[:2]:
        scene, at = random_scene(number), frames_of(number, scenes.data)
        rendered = render(scene, at, 128)
        row, frame = torch.tensor([number]), torch.tensor([0])
        bytes_seen = (rendered.frames * 255).round() / 255
        assert torch.equal(known.maps("canny", row, frame)[0, 0] > 0, canny(bytes_seen)[0])
        depth = known.maps("depth", row, frame)[0, 0]
        assert torch.equal(depth == 0, rendered.depth[0, 0] == rendered.depth.max())
        pose = known.maps("pose", row, frame)[0].sum(0) > 0
        figures = torch.stack(
            [m for m, o in zip(rendered.masks[0], scene.objects, strict=True) if o.shape == "figure"]
        )
        assert float(figures.sum(0)[pose].mean()) > 0.7, "sticks lie in the figure, where nothing hides it"
    draw = training.draw("control", training.training("control").module)
    assert isinstance(draw, DrawnControls)
    batch = draw(4)
    colourful = (batch.maps[:, 0] != batch.maps[:, 1]).flatten(1).any(1)
    assert colourful.tolist() == [True, False, False], "at number 4, the pose is the first of three"
    assert all(torch.equal(a, b) for a, b in zip(batch, draw(4), strict=True))


def test_poses_need_people(tmp_path):
    nobody = SceneData(
        count=1,
        begin=1,
        chunk=1,
        captions=1,
        first=next(n for n in range(99) if all(o.shape != "figure" for o in random_scene(n).objects)),
    )
    parts = {**recipe().parts}
    told = MiniRecipe(parts=parts, scenes=nobody, pool=500)
    with pytest.raises(SettingsError, match="shows a person"):
        train_mini(tmp_path, ["control-pose"], recipe=told, device="cpu", start=mini.FOLDER)


def test_maps_of_unseen_scenes_are_of_their_objects():
    for kind in PARTS["control"]:
        scenes = held_out(kind, 2)
        maps = exact_maps(kind, scenes)
        assert maps.shape == (2, 3, 128, 128)
        masks = torch.cat([main_mask(scene, [0], 128) for scene in scenes])[:, 0]
        for shown, mask in zip(maps, masks, strict=True):
            inside = (shown.sum(0) > 0) & (mask > 0)
            assert inside.any()
            if kind != "canny":
                assert int(inside.sum()) > 0.95 * int((shown.sum(0) > 0).sum())
