"""Maps and captions that models make of clips: theirs, in the shards, the same at every build."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from evenreel.backbones.depth import load_depth
from evenreel.backbones.language import load_captioner, load_reworder
from evenreel.backbones.poses import load_poses
from evenreel.errors import DataError, SettingsError, WeightsError
from evenreel.ops.skeleton import skeleton
from evenreel.training.data.manifest import read_manifest
from evenreel.training.data.settings import LookingSettings
from evenreel.training.data.shards import ShardedData
from evenreel.training.data.sources import cleaned, world_source
from evenreel.workflows.training.data_check import check
from lookers import save_captioner, save_depth, save_detector, save_poses, save_reworder
from training.making import SIZE, SMALL, built, clips_folder, contents, members


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "depth_model": save_depth(folder / "depth"),
        "pose_model": save_poses(folder / "poses"),
        "captioner_model": save_captioner(folder / "blip"),
        "rewording_model": save_reworder(folder / "llama"),
        "crowd": save_detector(folder / "crowd"),
        "nobody": save_detector(folder / "nobody", sure=-9),
    }


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_depth_is_the_model_s_on_one_scale_in_each_group(tmp_path, models):
    clips = clips_folder(tmp_path / "clips", count=1)
    settings = replace(SMALL, control=("depth",))
    looking = LookingSettings(depth_model=models["depth_model"])
    built(tmp_path / "clips", tmp_path / "data", settings, looking=looking)
    found, model = members(tmp_path / "data" / "shard-00000.tar"), load_depth(str(models["depth_model"]))
    (frames,) = clips.values()
    for group, numbers in enumerate([(0, 2), (3, 5), (6, 8)]):
        near = model.nearness(torch.from_numpy(frames[list(numbers)]).permute(0, 3, 1, 2).float() / 255)
        wanted = (near.max() - near) / (near.max() - near.min()) * 65535
        kept = [picture(found[f"c000000-g{group:05}.depth.{index}.png"]) for index in range(2)]
        # a step of the picture, and what another number of frames at once rounds otherwise
        assert np.abs(np.stack(kept) - wanted.numpy()).max() < 0.001 * 65535
        assert min(one.min() for one in kept) == 0
        assert max(one.max() for one in kept) == 65535
    batch = ShardedData(tmp_path / "data", maps=("depth",)).batch(step=0, size=2, seed=0)
    assert batch.maps["depth"].shape == (2, 2, 1, SIZE, SIZE)
    assert not check(tmp_path / "data").found.problems


def test_people_are_drawn_as_sticks_and_groups_without_any_are_left_out(tmp_path, models):
    clips = clips_folder(tmp_path / "clips", count=1)
    settings = replace(SMALL, control=("pose",))
    looking = LookingSettings(pose_model=models["pose_model"], person_detector=models["crowd"])
    built(tmp_path / "clips", tmp_path / "data", settings, looking=looking)
    (frames,) = clips.values()
    frame = torch.from_numpy(frames[:1]).permute(0, 3, 1, 2).float() / 255
    people = load_poses(str(models["pose_model"]), str(models["crowd"])).people(frame)
    kept = picture(members(tmp_path / "data" / "shard-00000.tar")["c000000-g00000.pose.0.png"])
    assert np.array_equal(kept, skeleton(people[None], (SIZE, SIZE))[0].movedim(0, -1).numpy())
    assert kept.any()
    nobody = replace(looking, person_detector=models["nobody"])
    with pytest.raises(DataError, match="clip0: it shows no person, and poses are to be kept"):
        built(tmp_path / "clips", tmp_path / "none", settings, looking=nobody)


def test_clips_without_captions_get_some_and_others_keep_theirs(tmp_path, models):
    clips_folder(tmp_path / "clips", count=3)
    file = tmp_path / "clips" / "captions.json"
    file.write_text(
        json.dumps({name: texts for name, texts in json.loads(file.read_text()).items() if name != "clip1"})
    )
    assert built(tmp_path / "clips", tmp_path / "plain").skipped == [("clip1", "it has no captions")]
    looking = LookingSettings(captioner_model=models["captioner_model"])
    manifest = built(tmp_path / "clips", tmp_path / "data", looking=looking)
    assert (manifest.samples, manifest.skipped) == (9, [])
    data = ShardedData(tmp_path / "data")
    facts = {one["clip"]: one for one in (data[number].facts for number in range(len(data)))}
    assert {clip: one["source"].get("captioned", False) for clip, one in facts.items()} == {
        "clip0": False, "clip1": True, "clip2": False,
    }  # fmt: skip
    frames = np.stack(
        [np.asarray(Image.open(tmp_path / "clips" / "clip1" / f"{at:03}.png")) for at in (2, 4, 6)]
    )
    model = load_captioner(str(models["captioner_model"]))
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    assert tuple(facts["clip1"]["captions"]) == cleaned([model.caption(one[None]) for one in pictures])


def test_other_wordings_are_what_the_model_writes(tmp_path, models):
    clips_folder(tmp_path / "clips", count=1)
    looking = LookingSettings(rewording_model=models["rewording_model"])
    built(tmp_path / "clips", tmp_path / "data", looking=looking)
    facts = ShardedData(tmp_path / "data")[0].facts
    model = load_reworder(str(models["rewording_model"]))
    wanted = cleaned(
        [text for caption in facts["captions"] for text in model.reworded(caption, SMALL.variations)]
    )
    assert tuple(facts["variations"]) == wanted


def test_a_program_words_what_a_model_captioned(tmp_path, models):
    clips_folder(tmp_path / "clips", count=1)
    (tmp_path / "clips" / "captions.json").unlink()
    settings = replace(SMALL, captioner="sed 's/.*/[\"a wording\"]/'")
    looking = LookingSettings(captioner_model=models["captioner_model"])
    built(tmp_path / "clips", tmp_path / "data", settings, looking=looking)
    facts = ShardedData(tmp_path / "data")[0].facts
    assert facts["captions"]
    assert facts["variations"] == ["a wording"]


def test_the_bytes_repeat_and_the_manifest_knows_the_models(tmp_path, models):
    clips_folder(tmp_path / "clips", count=2)
    (tmp_path / "clips" / "captions.json").unlink()
    settings = replace(SMALL, control=("depth", "pose"), per_clip=1)
    told = {
        name: models[name] for name in ("depth_model", "pose_model", "captioner_model", "rewording_model")
    }
    for out in ("one", "two"):
        built(tmp_path / "clips", tmp_path / out, settings, looking=LookingSettings(**told))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    prints = read_manifest(tmp_path / "one").models
    assert prints.keys() == told.keys()
    other = save_depth(tmp_path / "other", seed=1)
    with pytest.raises(SettingsError, match=r"was begun otherwise \(depth_model was another, or none\)"):
        built(
            tmp_path / "clips",
            tmp_path / "one",
            settings,
            looking=LookingSettings(**{**told, "depth_model": other}),
        )
    assert built(tmp_path / "clips", tmp_path / "one", settings, looking=LookingSettings(**told)).complete


@pytest.mark.parametrize(
    ("control", "told", "words"),
    [
        ((), ("depth_model",), "depth_model goes with control depth only"),
        (("depth",), ("depth_model", "pose_model"), "pose_model goes with control pose only"),
        (("pose",), (), "for clips give a model as pose_model"),
    ],
)
def test_models_and_maps_go_together(tmp_path, models, control, told, words):
    clips_folder(tmp_path / "clips", count=1)
    looking = LookingSettings(**{name: models[name] for name in told})
    with pytest.raises(SettingsError, match=words):
        built(tmp_path / "clips", tmp_path / "data", replace(SMALL, control=control), looking=looking)


def test_what_does_not_go_together_is_one_sentence(tmp_path, models):
    with pytest.raises(SettingsError, match="person_detector goes with pose_model only"):
        LookingSettings(person_detector=models["crowd"])
    looking = LookingSettings(depth_model=models["depth_model"])
    with pytest.raises(SettingsError, match="depth_model looks at clips"):
        built(world_source(1), tmp_path / "data", replace(SMALL, control=("depth",)), looking=looking)
    clips_folder(tmp_path / "clips", count=1)
    with pytest.raises(SettingsError, match="captioner and rewording_model both make other wordings"):
        built(
            tmp_path / "clips", tmp_path / "data", replace(SMALL, captioner="cat"),
            looking=LookingSettings(rewording_model=models["rewording_model"]),
        )  # fmt: skip
    with pytest.raises(WeightsError, match="must be a plain DepthAnythingForDepthEstimation"):
        built(
            tmp_path / "clips", tmp_path / "data", replace(SMALL, control=("depth",)),
            looking=LookingSettings(depth_model=models["pose_model"]),
        )  # fmt: skip
    assert not (tmp_path / "data").exists()
