"""Motion modules in one file, in the layout that AnimateDiff publishes, beside what diffusers makes of them."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from safetensors.torch import save_file
from torch import Tensor

from closeness import assert_close
from evenreel.backbones.recognise import recognise, used_as
from evenreel.backbones.safetensors_file import read_header
from evenreel.errors import WeightsError
from evenreel.motion.folder import load_motion
from hosts import golden

KEY = "down_blocks.0.motion_modules.0.temporal_transformer"


def adapter(**changes) -> MotionAdapter:
    """Modules with weights that matter, in 8 heads and 32 groups as all that are published."""
    torch.manual_seed(5)
    made = MotionAdapter(**{"block_out_channels": (32, 64, 64, 64), "motion_max_seq_length": 24, **changes})
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2)
    return made


def published(made: MotionAdapter, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of modules by the names of the original code."""
    found = {}
    for name, tensor in made.state_dict().items():
        if name.endswith("pos_embed.pe"):
            for number in (0, 1):
                own = name.replace("pos_embed", f"attention_blocks.{number}.pos_encoder")
                found[own] = tensor.clone()
            continue
        for ours, theirs in (
            (".norm1.", ".norms.0."),
            (".norm2.", ".norms.1."),
            (".norm3.", ".ff_norm."),
            (".attn1.", ".attention_blocks.0."),
            (".attn2.", ".attention_blocks.1."),
        ):
            name = name.replace(ours, theirs)
        found[name] = tensor.clone()
    return {
        prefix + re.sub(r"(motion_modules\.\d+)", r"\1.temporal_transformer", n): t for n, t in found.items()
    }


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize(
    ("prefix", "changes"),
    [
        ("", {}),  # AnimateDiff v2
        ("module.", {"use_motion_mid_block": False, "motion_max_seq_length": 32}),  # v3, AnimateLCM
        ("unet.module.", {"block_out_channels": (32, 64, 64), "use_motion_mid_block": False}),  # for SD-XL
        ("", {"motion_transformer_layers_per_block": 2, "block_out_channels": (32, 32, 32, 32)}),
    ],
)
def test_a_file_is_what_diffusers_makes_of_it(tmp_path, changes, prefix):
    made = adapter(**changes)
    tensors = published(made)
    theirs = adapter(**changes)
    kept = theirs.load_state_dict(convert_animatediff_checkpoint_to_diffusers(tensors), strict=False)
    assert all(name.endswith(".pe") for name in kept.missing_keys)
    path = saved(tmp_path / "mm.safetensors", {prefix + name: tensor for name, tensor in tensors.items()})
    found = recognise(read_header(path))
    assert (found.kind, used_as(found)) == ("motion", "motion")
    own = load_motion(path)
    assert own.config.motion_num_attention_heads == (8,) * len(own.config.block_out_channels)
    assert own.max_frames == made.config["motion_max_seq_length"]
    wanted = theirs.state_dict()
    assert own.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in own.state_dict().items())


def test_a_file_in_half_precision_as_people_have_it():
    own = load_motion(golden.of_others("motion_file.safetensors"))
    folder = load_motion(golden.of_others("motion_folder"))
    assert own.config == folder.config
    found = own.state_dict()
    for name, tensor in folder.state_dict().items():
        assert_close(found[name], tensor, 1e-3)  # of the folder, in full precision


def test_diffusers_names_need_their_description(tmp_path):
    made = adapter(motion_num_attention_heads=4)
    made.save_pretrained(tmp_path / "folder")
    path = saved(tmp_path / "folder" / "renamed.safetensors", made.state_dict())
    assert load_motion(path).config.motion_num_attention_heads == (4,) * 4
    alone = saved(tmp_path / "alone.safetensors", made.state_dict())
    with pytest.raises(WeightsError, match=r"how many heads.*put the config\.json"):
        load_motion(alone)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {**t, "conv_in.weight": torch.zeros(32, 9, 3, 3)}, "as PIA has them, not motion modules"),
        (lambda t: {**t, "controlnet_cond_embedding.conv_in.weight": torch.zeros(4)}, "a SparseCtrl"),
        (lambda t: {**t, "down_blocks.0.resnets.0.conv1.weight": torch.zeros(4)}, "a whole UNet with motion"),
        (lambda t: {n: v for n, v in t.items() if "up_blocks.2" not in n}, "does not hold the weights"),
        (lambda t: {**t, f"{KEY}.proj_in.bias": torch.full((32,), torch.nan)}, "NaN or infinite"),
        (lambda t: {**t, f"{KEY}.proj_in.bias": torch.zeros(32, dtype=torch.int8)}, "numbers of type I8"),
        (
            lambda t: {n.replace("motion_modules", "temporal_attentions"): v for n, v in t.items()},
            "a motion module of Hotshot-XL",
        ),
        (lambda _: {"emb_params": torch.zeros(1, 768)}, "an embedding.*give it as embedding"),
    ],
)
def test_what_is_no_such_file(tmp_path, change, says):
    path = saved(tmp_path / "mm.safetensors", change(published(adapter())))
    with pytest.raises(WeightsError, match=says):
        load_motion(path)
