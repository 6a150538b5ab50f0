"""The mini model's training: parts begin with the packaged weights, go on, are packed; nothing needs PyAV."""

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evenreel.backbones import load_backbone, mini
from evenreel.errors import ResourceError, SettingsError, WeightsError
from evenreel.motion.folder import load_motion
from evenreel.motion.modules import MotionModules
from evenreel.training import parcels
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.mini.latents import tokens_of, word_tokens
from evenreel.training.mini.parts import MiniTraining
from evenreel.training.mini.pictures import as_bytes, in_order
from evenreel.training.mini.recipe import MiniRecipe, PartRecipe
from evenreel.training.mini.rendering import Chunk, captions_of, edit_of, frames_of
from evenreel.training.mini.scene_data import SceneData
from evenreel.training.mini.start import StartFolder
from evenreel.training.mini.train import train_mini
from evenreel.world import ATTRIBUTES, render

QUICK = LoopSettings(steps=2, warmup=1, optimizer="muon", average=0.5, dtype="float32")


def recipe(**batches: int) -> MiniRecipe:
    parts = {name: PartRecipe(loop=QUICK, batch=batches.get(name, 2)) for name in MiniRecipe().parts}
    clips = SceneData(count=2, begin=2, frames=4, chunk=2)
    return MiniRecipe(
        parts=parts, scenes=SceneData(count=8, begin=8, chunk=4, captions=2), clips=clips, pool=250
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.cpu_count", lambda: 1)  # one process renders
        model = train_mini(folder, ["unet", "motion"], recipe=recipe(), device="cpu", start=mini.FOLDER)
    assert model == folder / "model"
    return folder


@pytest.fixture
def alone(rendered_here):
    """Without the processes that render; `made` has them."""
    with rendered_here():
        yield


def test_what_was_not_trained_is_that_of_the_start(made):
    ours, theirs = (
        load_file(folder / "vae/diffusion_pytorch_model.safetensors")
        for folder in (made / "model", mini.FOLDER)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    name = "unet/diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(made / "model" / name), load_file(mini.FOLDER / name)
    assert any(not torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_packed_model_draws_and_says_how_it_was_made(made):
    backbone = load_backbone(str(made / "model"), device="cpu")
    assert backbone.decode(torch.zeros(1, 4, 16, 16)).shape == (1, 3, 128, 128)
    record = json.loads((made / "model" / "training.json").read_text())["parts"]["unet"]
    assert (record["steps"], record["batch"], record["from"], record["device"]) == (2, 2, "mini", "cpu")
    assert load_motion(made / "motion").max_frames == 32


def test_a_finished_training_is_not_made_again(made):
    before = {path: path.read_bytes() for path in made.glob("*.safetensors")}
    train_mini(made, ["unet"], recipe=recipe(), device="cpu", start=mini.FOLDER)
    assert {path: path.read_bytes() for path in made.glob("*.safetensors")} == before


def test_parts_need_those_before_them(tmp_path):
    with pytest.raises(SettingsError, match="vae is trained for 0 steps"):
        train_mini(tmp_path, ["unet"], recipe=recipe(), device="cpu")


def test_only_a_mini_model_can_be_started_from(tmp_path):
    with pytest.raises(WeightsError, match="is not a mini model"):
        StartFolder(tmp_path)


@pytest.mark.usefixtures("alone")
def test_memory_that_is_too_small_halves_the_batch(tmp_path, monkeypatch):
    training = MiniTraining(tmp_path, recipe=recipe(judge=8), device="cpu", start=StartFolder(mini.FOLDER))
    real = training.draw

    def draw(part, module):
        if training.recipe.parts[part].batch > 2:
            raise torch.OutOfMemoryError("too much")
        return real(part, module)

    monkeypatch.setattr(training, "draw", draw)
    with pytest.warns(UserWarning, match=r"too little memory for (8|4) samples of judge"):
        assert len(list(training.train("judge"))) == 2
    assert training.recipe.parts["judge"].batch == 2
    monkeypatch.setattr(
        training, "draw", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("too much"))
    )
    small = dataclasses.replace(training.recipe.parts["vision"], batch=1)
    training.recipe = dataclasses.replace(training.recipe, parts={**training.recipe.parts, "vision": small})
    with pytest.raises(ResourceError, match="too little memory to train vision"):
        list(training.train("vision"))


@pytest.mark.usefixtures("alone")
def test_minutes_in_which_no_step_fits_are_refused(tmp_path):
    short = recipe().told(minutes=1e-6)
    with pytest.raises(SettingsError, match=r"minutes 1e-06 is less than one step of judge takes"):
        train_mini(tmp_path, ["judge"], recipe=short, device="cpu", start=mini.FOLDER)


def test_words_give_the_tokens_that_the_tokenizer_gives():
    texts = [text for seed in range(200) for text in captions_of(seed, 3)]
    assert np.array_equal(word_tokens()(texts), tokens_of(texts).numpy())


def test_clips_keep_their_object_in_view_at_every_stride():
    data = SceneData(count=1, begin=1, frames=16, strides=(1, 2))
    shown = [frames_of(seed, data) for seed in range(50)]
    assert {frames[1] - frames[0] for frames in shown} == {1, 2}
    assert all(0 <= frames[0] <= frames[-1] < 32 for frames in shown)


class Later(Executor):
    """A pool whose results come when they are told to."""

    def __init__(self) -> None:
        self.futures: list = []

    def submit(self, work, number):
        self.futures.append((Future(), work, number))
        return self.futures[-1][0]

    def finish(self, index: int) -> None:
        future, work, number = self.futures[index]
        future.set_result(work(number))


def test_results_come_in_order_whenever_they_are_ready():
    pool = Later()
    results = in_order(pool, lambda number: number, range(3), ahead=2)
    assert next(results) is None
    assert len(pool.futures) == 2, "no more than `ahead` are under way"
    pool.finish(1)
    assert next(results) is None, "the first is still missing"
    pool.finish(0)
    assert next(results) == 0
    assert next(results) == 1
    pool.finish(2)
    assert list(results) == [2]


def test_parcels_are_joined_and_damage_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(parcels, "LIMIT", 1000)
    tensors = {"a": torch.randn(700).half().float(), "b": torch.randn(3, 4).half().float()}
    parcels.pack(tensors, tmp_path, "unet")
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("unet.*"))
    joined = parcels.joined(tmp_path, "unet")
    assert all(torch.equal(joined[name], tensors[name]) for name in tensors)
    part = tmp_path / "unet.1"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"unet\.1 is absent or damaged"):
        parcels.joined(tmp_path, "unet")
    with pytest.raises(WeightsError, match="no weights of motion"):
        parcels.joined(tmp_path, "motion")


def test_trainings_import_without_video_libraries():
    """On a bare GPU machine there is neither PyAV nor WebDataset nor beartype."""
    script = """
import sys
for name in ("av", "webdataset", "beartype", "torchvision", "cv2", "starlette"):
    sys.modules[name] = None
import importlib, pkgutil, evenreel.training
for found in pkgutil.walk_packages(evenreel.training.__path__, "evenreel.training."):
    importlib.import_module(found.name)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-1500:]


def test_workers_import_the_world_alone():
    script = "import sys, evenreel.training.mini.rendering; print({'diffusers', 'transformers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_edited_scenes_are_shown_before_and_after_the_change(tmp_path):
    data = SceneData(count=2, begin=2, frames=6, captions=2, chunk=2, edited=True, first=40)
    made = Chunk(tmp_path, data, 1, word_tokens())
    made.make()
    made(0)
    pictures, tokens = np.load(made.pictures)[0], np.load(made.tokens)[0]
    for index in range(2):
        scene, changed, texts = edit_of(40 + index)
        assert 1 <= sum(scene.attribute(name) != changed.attribute(name) for name in ATTRIBUTES) <= 3
        frames = frames_of(40 + index, data)
        assert len(frames) == data.shown == 3
        for part, one in enumerate((scene, changed)):
            shown = as_bytes(render(one, frames, 128, maps=False).frames)
            assert np.array_equal(pictures[index, 3 * part : 3 * part + 3], shown)
        assert torch.equal(torch.from_numpy(tokens[index]), tokens_of(texts))


@pytest.mark.usefixtures("alone")
def test_the_unet_that_learnt_with_motion_modules_comes_out_of_their_training(tmp_path):
    together = dataclasses.replace(recipe(unet=1, motion=1), joint=True)
    train_mini(tmp_path, ["motion"], recipe=together, device="cpu", start=mini.FOLDER)
    training = MiniTraining(tmp_path, recipe=together, device="cpu", start=StartFolder(mini.FOLDER))
    before = StartFolder(mini.FOLDER).load("unet", training._built("unet")).state_dict()
    after = training.finished("unet")
    assert not any(module._forward_hooks for module in after.modules())
    changed = [name for name, value in after.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) > len(before) / 2
    assert isinstance(training.finished("motion"), MotionModules)
