"""Maps that models make of clips for ControlNets: those of the model itself, in every host, and the same again."""

import itertools
import json

import pytest
import torch
from PIL import Image

import evenreel
from evenreel import registry
from evenreel.backbones.depth import load_depth
from evenreel.backbones.map_models import MapModels, levels
from evenreel.backbones.poses import load_poses
from evenreel.errors import ClipError, SettingsError, WeightsError
from evenreel.ops.skeleton import skeleton
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.video import load, probe, to_model
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.generate import generate_clip
from evenreel.workflows.editing.repeat import repeat_edit
from lookers import save_depth, save_detector, save_poses
from tiny import save_tiny_control


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {
        "control": save_tiny_control(folder / "control"),
        "other": save_tiny_control(folder / "other", seed=1),
        "depths": save_depth(folder / "depth"),
        "poses": save_poses(folder / "poses"),
        "crowd": save_detector(folder / "crowd"),
        "nobody": save_detector(folder / "nobody", sure=-9),
    }
    return {name: str(place) for name, place in made.items()}


@pytest.fixture
def edited(tiny_folder, places, clip_with_sound, tmp_path):
    """Edits the clip, each time into another folder; names stand for places."""
    count = itertools.count()

    def named_place(value):
        if isinstance(value, list):
            return [named_place(one) for one in value]
        return places.get(value, value) if isinstance(value, str) else value

    def run(**told):
        quick = {
            "prompt": "a star",
            "steps": 1,
            "model": str(tiny_folder),
            "device": "cpu",
            "inversion": "ddim",
            "host": "frame",
            "frames": (0, 3),
            "control": "control",
        }
        named = {name: named_place(value) for name, value in {**quick, **told}.items()}
        return edit_file(clip_with_sound, tmp_path / f"edit-{next(count)}", EditSettings.from_json(named))

    return run


def frames_of(result):
    return load(result.path).frames


def as_clip(maps, folder):
    """Maps (frames channels height width), bytes, as a folder of images."""
    folder.mkdir()
    for number, one in enumerate(maps):
        picture = one.expand(3, -1, -1).movedim(0, -1).contiguous().numpy()
        Image.fromarray(picture).save(folder / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize("size", [(32, 96), (48, 64)])
def test_maps_of_another_shape_are_said_to_be_stretched_once(edited, clip_with_sound, tmp_path, caplog, size):
    height, width = size
    own = probe(clip_with_sound)
    maps = as_clip(torch.zeros(3, 1, height, width, dtype=torch.uint8), tmp_path / "maps")
    told = {"control": ["control", "other"], "control_kind": "as-is", "control_clip": ["", maps]}
    record = edited(**told).record
    of_its_shape = abs(width * own.height / (height * own.width) - 1) < 0.1
    said = [line for line in caplog.messages if "stretched" in line]
    assert len(said) == (0 if of_its_shape else 1)
    assert said == [warning for warning in record["warnings"] if "stretched" in warning]


def seen(clip, result):
    return to_model(load(clip, 0, 3).frames, tuple(result.record["working_size"]))


def test_depth_is_the_model_s_own_on_one_scale(edited, places, clip_with_sound, tmp_path):
    made = edited(control_kind="depth", depth_model="depths")
    (described,) = made.record["control"]
    assert described["made_by"] == MapModels(depth_model=places["depths"]).fingerprints()
    frames, model = seen(clip_with_sound, made), load_depth(places["depths"])
    near = torch.stack([model.nearness(frame[None])[0] for frame in frames])
    maps = ((near - near.min()) / (near.max() - near.min()) * 255).round().to(torch.uint8)
    shown = as_clip(maps[:, None], tmp_path / "maps")
    assert torch.equal(frames_of(edited(control_kind="as-is", control_clip=shown)), frames_of(made))
    assert not torch.equal(frames_of(edited()), frames_of(made))


def test_people_are_drawn_as_sticks(edited, places, clip_with_sound, tmp_path):
    told = {"control_kind": "pose", "pose_model": "poses", "person_detector": "crowd"}
    made = edited(**told)
    assert made.record["control"][0]["made_by"].keys() == {"pose_model", "person_detector"}
    frames, model = seen(clip_with_sound, made), load_poses(places["poses"], places["crowd"])
    maps = [skeleton(model.people(frame[None])[None], tuple(frame.shape[1:]))[0] for frame in frames]
    shown = as_clip(maps, tmp_path / "maps")
    assert torch.equal(frames_of(edited(control_kind="as-is", control_clip=shown)), frames_of(made))
    with pytest.raises(ClipError, match="the pose model sees nobody in the clip; choose frames"):
        edited(**{**told, "person_detector": "nobody"})


@pytest.mark.parametrize("host", registry.names(registry.HOSTS))
def test_several_kinds_at_once_in_every_host(edited, places, host):
    told = {
        "host": host,
        "control": [places["control"], places["other"], places["control"]],
        "control_kind": ["canny", "depth", "pose"],
        "depth_model": "depths",
        "pose_model": "poses",
    }
    made = frames_of(edited(**told))
    for scale in ([1, 0, 1], [1, 1, 0]):
        assert not torch.equal(frames_of(edited(**told, control_scale=scale)), made)


def test_windows_and_scenes(edited):
    told = {"control_kind": "depth", "depth_model": "depths"}
    one, other = (frames_of(edited(**told, batch=batch)) for batch in (1, 3))
    assert (one.int() - other.int()).abs().max() <= 1
    near = torch.tensor([[[0.0, 1.0]], [[1.0, 3.0]], [[10.0, 30.0]]])
    assert levels(near).flatten().tolist() == [0, 8, 8, 26, 85, 255]
    scenes = levels(near, (slice(0, 2), slice(2, 3)))
    assert scenes.flatten().tolist() == [0, 85, 85, 255, 0, 255]
    assert not levels(torch.full((2, 1, 2), 7.0)).any()


def test_scenes_are_edited_as_if_each_were_alone(edited):
    told = {"control_kind": "depth", "depth_model": "depths", "cuts": "2", "frames": (0, 4)}
    whole = frames_of(edited(**told))
    alone = frames_of(edited(**{**told, "cuts": "none", "frames": (2, 4)}))
    assert (whole[2:].int() - alone.int()).abs().max() <= 1


def test_clips_from_text_take_maps_of_another_clip(tiny_folder, places, clip_with_sound):
    told = {
        "prompt": "a star",
        "steps": 2,
        "model": str(tiny_folder),
        "device": "cpu",
        "frames": 3,
        "control": places["control"],
        "control_kind": "depth",
        "control_clip": str(clip_with_sound),
    }
    as_map = generate_clip(GenerateSettings.from_json(told))
    made = generate_clip(GenerateSettings.from_json({**told, "depth_model": places["depths"]}))
    assert not torch.equal(made.frames, as_map.frames)
    assert made.record["control"][0]["made_by"]


def test_in_memory_as_in_the_file_and_again_from_the_record(
    edited, places, clip_with_sound, tmp_path, tmp_path_factory
):
    own = save_depth(tmp_path_factory.mktemp("own") / "depth")
    told = {"control_kind": "depth", "depth_model": str(own)}
    made = edited(**told)
    settings = EditSettings.from_json(json.loads(json.dumps(made.record["settings"])))
    assert (settings.depth_model, settings.control[0].kind) == (str(own), "depth")
    again = repeat_edit(made.record_path, tmp_path / "again")
    assert torch.equal(frames_of(again), frames_of(made))
    in_memory = evenreel.edit(load(clip_with_sound, 0, 3), settings)
    assert torch.equal(in_memory.frames, frames_of(made))
    save_depth(own, seed=1)
    with pytest.raises(WeightsError, match="what made the depth maps is no longer the model that was used"):
        repeat_edit(made.record_path, tmp_path / "third")


def test_what_cannot_be_is_refused_before_the_work(edited, places):
    with pytest.raises(SettingsError, match="depth_model makes maps for a control of kind depth"):
        edited(depth_model="depths")
    with pytest.raises(SettingsError, match="person_detector goes with pose_model only"):
        edited(person_detector="crowd")
    with pytest.raises(SettingsError, match="needs pose maps; name a model that makes them with pose_model"):
        edited(control_kind="pose")
    with pytest.raises(WeightsError, match="a Depth Anything"):
        edited(control_kind="depth", depth_model="poses")
    with pytest.raises(WeightsError, match="no-such"):
        edited(control_kind="depth", depth_model="no-such")
