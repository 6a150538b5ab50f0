"""Folders that are not what they should be end in one sentence."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from evenreel.errors import OutputError, WeightsError
from evenreel.motion.folder import load_motion, save_motion
from hosts import golden
from motion.moving import random_motion
from tiny import SD1, tiny_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return save_motion(random_motion(tiny_unet(**SD1)), tmp_path)


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


def test_a_folder_as_people_have_it():
    modules = load_motion(golden.of_others("motion_folder"))
    assert modules.config.block_out_channels == (32, 64, 64, 64)
    assert modules.max_frames == 32
    assert modules.mid_block is not None


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "must be a plain MotionAdapter"),
        ({"conv_in_channels": 9}, "PIA"),
        ({"block_out_channels": 32}, "list of numbers"),
        ({"block_out_channels": [32, 32]}, "does not hold"),
        ({"block_out_channels": [64, 32, 32, 32]}, "must be numbers of size"),
        ({"motion_layers_per_block": [2, 2]}, "must be 4 numbers"),
        ({"motion_layers_per_block": 10**9}, "from 1 to"),
        ({"motion_num_attention_heads": 5}, "cannot be cut"),
        ({"motion_max_seq_length": 16}, "must be numbers of size"),
        ({"motion_max_seq_length": "32"}, "from 1 to"),
        ({"use_motion_mid_block": True}, "does not hold"),
    ],
)
def test_a_description_that_does_not_fit(folder, entries, says):
    change(folder, **entries)
    with pytest.raises(WeightsError, match=says):
        load_motion(folder)


def test_what_is_absent_or_damaged(folder, tmp_path):
    with pytest.raises(WeightsError, match="is not a folder"):
        load_motion(tmp_path / "nowhere")
    tensors = load_file(folder / WEIGHTS)
    name = "up_blocks.0.motion_modules.0.proj_out.bias"
    save_file(tensors | {name: tensors[name] / 0}, folder / WEIGHTS)
    with pytest.raises(WeightsError, match="NaN"):
        load_motion(folder)
    (folder / WEIGHTS).write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match="safetensors"):
        load_motion(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match="is missing"):
        load_motion(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="no JSON object"):
        load_motion(folder)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_motion(random_motion(), tmp_path / "file" / "folder")


def test_weights_can_be_trained_again(folder):
    with torch.inference_mode():
        modules = load_motion(folder)
    modules.requires_grad_(True)
    sum(weight.sum() for weight in modules.parameters()).backward()
