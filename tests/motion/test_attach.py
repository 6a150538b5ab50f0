"""What is attached works on clips, and leaves no trace."""

import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel.adapters.lora import Lora, lora_attached
from evenreel.adapters.settings import LoraSettings
from evenreel.errors import WeightsError
from evenreel.motion.attach import motion_attached
from evenreel.motion.modules import MotionModules
from motion.moving import call_inputs, random_motion
from tiny import SD1, tiny_unet


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


def predict(unet, rows=6):
    with torch.no_grad():
        return unet(*call_inputs(rows)).sample


def test_untrained_modules_are_off_bit_for_bit(unet):
    plain = predict(unet)
    with motion_attached(unet, MotionModules.for_unet(unet, use_motion_mid_block=True), frames=3):
        assert torch.equal(predict(unet), plain)


def test_modules_switched_off_are_off_bit_for_bit(unet):
    plain = predict(unet)
    with motion_attached(unet, random_motion(unet), frames=3) as switch:
        changed = predict(unet)
        switch.is_on = False
        assert torch.equal(predict(unet), plain)
    assert_apart(changed, plain, by=0.01)


def test_nothing_stays_after_an_exception(unet):
    plain = predict(unet)
    with pytest.raises(KeyError), motion_attached(unet, random_motion(unet)):
        raise KeyError
    assert torch.equal(predict(unet), plain)
    assert not any(module._forward_hooks for module in unet.modules())


def test_clips_of_a_call_know_nothing_of_one_another(unet):
    latents, timestep, prompt_embeds = call_inputs(6)
    with torch.no_grad(), motion_attached(unet, random_motion(unet), frames=3):
        together = unet(latents, timestep, prompt_embeds).sample
        alone = unet(latents[3:], timestep, prompt_embeds[3:]).sample
    assert_close(together[3:], alone)


def test_frames_know_of_one_another_and_their_order(unet):
    latents, timestep, prompt_embeds = call_inputs(4)
    prompt_embeds = prompt_embeds[:1].expand(4, -1, -1)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad(), motion_attached(unet, random_motion(unet), frames=4):
        straight = unet(latents, timestep, prompt_embeds).sample
        shuffled = unet(latents[order], timestep, prompt_embeds).sample
        other = latents.clone()
        other[3] = -other[3]
        touched = unet(other, timestep, prompt_embeds).sample
    assert_apart(straight[order], shuffled)
    assert_apart(straight[0], touched[0])


def test_a_lora_and_modules_add_up_in_either_order(unet):
    lora = Lora.of(unet, LoraSettings(scope="all"), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for path in lora.shapes:
            lora.factors(path)[1].normal_(0, 0.3)
    modules = random_motion(unet)
    plain = predict(unet)
    with lora_attached(unet, lora):
        only = predict(unet)
        with motion_attached(unet, modules, frames=3):
            first = predict(unet)
    with motion_attached(unet, modules, frames=3), lora_attached(unet, lora):
        second = predict(unet)
    assert torch.equal(first, second)
    assert_apart(first, only, by=0.01)
    assert torch.equal(predict(unet), plain)


@pytest.mark.parametrize("frames", [0, 4, 12])
def test_rows_that_are_not_whole_clips_are_refused(unet, frames):
    with (
        motion_attached(unet, random_motion(unet, max_frames=8), frames),
        pytest.raises(ValueError, match="rows"),
    ):
        predict(unet, 6 if frames != 12 else 12)


@pytest.mark.parametrize(
    "changes", [{"block_out_channels": (32, 32, 32, 64)}, {"layers_per_block": 1}, {"levels": 3}]
)
def test_modules_for_another_unet_are_refused(changes):
    modules = random_motion(tiny_unet(**SD1))
    other = tiny_unet(**(SD1 | changes))
    with pytest.raises(WeightsError, match="motion modules are for levels"), motion_attached(other, modules):
        pass
    assert not any(module._forward_hooks for module in other.modules())


def test_another_kind_of_unet_is_refused():
    with pytest.raises(WeightsError, match="kind"):
        MotionModules.for_unet(torch.nn.Linear(1, 1))


def test_weights_follow_from_the_seed_alone(unet):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, three = (MotionModules.for_unet(unet, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    name = "down_blocks.0.motion_modules.0.proj_in.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], three[name])
