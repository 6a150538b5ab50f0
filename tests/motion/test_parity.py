"""Against diffusers: one module, a whole UNet with all of them, and folders in both directions."""

import pytest
import torch
from diffusers import MotionAdapter, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from closeness import assert_apart, assert_close
from evenreel.backbones.conditioning import conditions, with_pooled
from evenreel.motion.attach import motion_attached
from evenreel.motion.folder import load_motion, save_motion
from evenreel.motion.modules import MotionModules
from evenreel.motion.transformer import FrameTransformer
from motion.moving import call_inputs, random_motion
from tiny import SD1, tiny_unet
from tiny_xl import POOLED, WIDTHS, tiny_xl_unet


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_module_is_diffusers_own(grad, layout):
    torch.manual_seed(0)
    reference = AnimateDiffTransformer3D(
        4, 8, 32, norm_num_groups=8, positional_embeddings="sinusoidal", num_positional_embeddings=24
    )
    own = FrameTransformer(32, heads=4, layers=1, max_frames=24, norm_groups=8)
    own.load_state_dict(reference.state_dict())
    hidden_states = torch.randn(2 * 6, 32, 5, 7).to(memory_format=layout)
    with torch.set_grad_enabled(grad):
        ours = own(hidden_states, 6)
        assert_close(ours, reference(hidden_states, num_frames=6))
    assert ours.is_contiguous(memory_format=layout)


def test_places_that_pass_in_parts_are_the_same(monkeypatch):
    own = random_motion().down_blocks[0].motion_modules[0]
    hidden_states = torch.randn(2 * 6, 32, 5, 7)
    with torch.no_grad():
        whole = own(hidden_states, 6)
        monkeypatch.setattr("evenreel.motion.transformer._TOKENS_CPU", 6 * 8)
        assert_close(own(hidden_states, 6), whole)


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("widths", [(32, 32, 32, 32), (32, 64, 64, 64)])
def test_hooks_make_what_unet_motion_model_makes(tmp_path, middle, widths):
    unet = tiny_unet(block_out_channels=widths, **SD1)
    modules = random_motion(unet, max_frames=12, use_motion_mid_block=middle)
    save_motion(modules, tmp_path)
    reference = UNetMotionModel.from_unet2d(unet, MotionAdapter.from_pretrained(tmp_path)).eval()
    latents, timestep, prompt_embeds = call_inputs(2 * 6)
    with torch.no_grad(), motion_attached(unet, modules, frames=6):
        ours = unet(latents, timestep, prompt_embeds).sample
        clips = latents.unflatten(0, (2, 6)).transpose(1, 2)
        theirs = reference(clips, timestep, prompt_embeds).sample
    assert_close(ours, theirs.transpose(1, 2).flatten(0, 1))


def test_hooks_make_what_unet_motion_model_makes_of_sdxl(tmp_path):
    """As AnimateDiff's modules for SD-XL: three levels, none in the middle."""
    unet = tiny_xl_unet()
    modules = random_motion(unet, max_frames=12)
    save_motion(modules, tmp_path)
    reference = UNetMotionModel.from_unet2d(unet, MotionAdapter.from_pretrained(tmp_path)).eval()
    reference.add_embedding.load_state_dict(unet.add_embedding.state_dict())  # which from_unet2d forgets
    latents, embeds = torch.randn(2 * 6, 4, 8, 8), torch.randn(2 * 6, 5, sum(WIDTHS))
    pooled = torch.randn(2, POOLED).repeat_interleave(6, 0)
    told = conditions(unet, with_pooled(embeds, pooled), (64, 64), torch.float32)
    added = {
        name: rows[::6] for name, rows in told["added_cond_kwargs"].items()
    }  # theirs has a row for each clip
    with torch.no_grad(), motion_attached(unet, modules, frames=6):
        ours = unet(latents, 401, **told).sample
    with torch.no_grad():
        clips = latents.unflatten(0, (2, 6)).transpose(1, 2)
        theirs = reference(clips, 401, told["encoder_hidden_states"], added_cond_kwargs=added).sample
        assert_apart(ours, unet(latents, 401, **told).sample)
    assert_close(ours, theirs.transpose(1, 2).flatten(0, 1))


def test_what_diffusers_saves_is_read(tmp_path):
    torch.manual_seed(1)
    adapter = MotionAdapter((32, 32, 32, 32), motion_norm_num_groups=8, motion_max_seq_length=24)
    adapter.save_pretrained(tmp_path / "full")
    adapter.half().save_pretrained(tmp_path / "half", variant="fp16")
    for name in ("full", "half"):
        modules = load_motion(tmp_path / name)
        assert modules.max_frames == 24
        assert modules.mid_block is not None
        kept = {n: v.half().float() if name == "half" else v for n, v in adapter.float().state_dict().items()}
        own = modules.state_dict()
        assert own.keys() == kept.keys()
        for key, value in own.items():
            assert_close(value, kept[key], 1e-3)
        assert all(value.dtype == torch.float32 for value in own.values())


def test_a_saved_folder_is_read_as_it_was(tmp_path):
    modules = random_motion(use_motion_mid_block=True)
    again = load_motion(save_motion(modules, tmp_path))
    assert again.config == modules.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in modules.state_dict().items())
    save_motion(modules, tmp_path, torch.float16)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.fp16.safetensors",
    ]
    assert MotionAdapter.from_pretrained(tmp_path, variant="fp16").config["motion_max_seq_length"] == 32


def test_stable_diffusions_layout():
    with torch.device("meta"):
        own = MotionModules.for_unet(
            tiny_unet(block_out_channels=(320, 640, 1280, 1280), norm_num_groups=32, **SD1)
        )
        theirs = MotionAdapter(use_motion_mid_block=False)
    assert {n: v.shape for n, v in own.state_dict().items()} == {
        n: v.shape for n, v in theirs.state_dict().items()
    }
    assert own.config.motion_num_attention_heads == (8, 8, 8, 8)
