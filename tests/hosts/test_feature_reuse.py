"""Steps that share deep features: what is shared, when, and that nothing else changes."""

from types import SimpleNamespace

import pytest
import torch

from evenreel.backbones import load_backbone
from evenreel.backbones.deep_features import given, has_deep_features, is_given, taken
from evenreel.hosts.feature_reuse import FeatureReuse


@pytest.fixture
def tiny(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


def called(tiny, seed, timestep=500):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return tiny.predict_noise(latents, timestep, tiny.embed(["a disc"]))


def test_a_call_that_is_given_its_own_deep_features_is_the_call_itself_bit_for_bit(tiny):
    with taken(tiny.unet) as found:
        whole = called(tiny, 0)
    with given(tiny.unet, found[0]):
        assert is_given(tiny.unet)
        assert torch.equal(called(tiny, 0), whole)
        assert not torch.equal(called(tiny, 1), whole), "the first and the last block see the latents"
    assert not is_given(tiny.unet)


def test_afterwards_the_network_is_as_it_was(tiny):
    before = called(tiny, 0)
    with taken(tiny.unet) as found:
        called(tiny, 1)
    with pytest.raises(ZeroDivisionError), given(tiny.unet, found[0]):
        raise ZeroDivisionError
    assert torch.equal(called(tiny, 0), before)
    assert not any("forward" in vars(module) for module in tiny.unet.modules())


def test_blocks_between_the_first_and_the_last_are_left_out(tiny):
    reached = []
    with taken(tiny.unet) as found:
        called(tiny, 0)
    for name, module in tiny.unet.named_modules():
        if name.endswith(("resnets.0", "resnets.1")):
            module.register_forward_hook(lambda *_, name=name: reached.append(name))
    with given(tiny.unet, found[0]):
        called(tiny, 0)
    last = len(tiny.unet.up_blocks) - 1
    assert {name.rsplit(".", 2)[0] for name in reached} == {"down_blocks.0", f"up_blocks.{last}"}


def test_networks_without_deep_blocks():
    assert not has_deep_features(SimpleNamespace())
    assert not has_deep_features(SimpleNamespace(up_blocks=[1]))


class Unet:
    """Says which rows are deep features of an earlier call."""

    device = torch.device("cpu")

    def __init__(self):
        self.mid_block, self.block = torch.nn.Identity(), torch.nn.Identity()
        self.down_blocks, self.up_blocks = [], [self.block, torch.nn.Identity()]

    def __call__(self, maps):
        return self.block(maps.view(-1, 1, 1, 1)).flatten().tolist()


def passed(reuse, branches, frames, timestep, first):
    """Deep maps of a call whose own are numbers from `first` on."""
    maps = torch.arange(first, first + len(branches) * len(frames)).float()
    with reuse.passing(branches, frames, timestep):
        return reuse.unet(maps)


def test_rows_find_their_own_maps_whichever_frames_pass_together():
    reuse = FeatureReuse(Unet(), [9, 8, 7, 6], 2, frames=3)
    assert passed(reuse, ["source", "uncond", "cond"], [0, 1, 2], 9, 10) == list(range(10, 19))
    assert passed(reuse, ["source", "cond"], [1, 2], 8, 50) == [11, 12, 17, 18]
    assert passed(reuse, ["source", "cond"], [0], 8, 60) == [10, 16]


def test_each_group_begins_anew():
    reuse = FeatureReuse(Unet(), [9, 8, 7, 6, 5], 3, frames=1)
    found = [passed(reuse, ["cond"], [0], timestep, timestep)[0] for timestep in reuse.timesteps]
    assert found == [9, 9, 9, 6, 6]
    assert [reuse.begins_group(timestep) for timestep in reuse.timesteps] == [True, False, False, True, False]


def test_rows_that_the_group_does_not_have_are_computed():
    reuse = FeatureReuse(Unet(), [9, 8, 7, 6, 5, 4], 3, frames=2)
    passed(reuse, ["cond"], [0, 1], 9, 10)
    assert passed(reuse, ["uncond", "cond"], [0, 1], 8, 20) == [20, 21, 22, 23], "guidance begins"
    assert passed(reuse, ["uncond", "cond"], [0, 1], 7, 30) == [20, 21, 22, 23]
    passed(reuse, ["cond"], [0, 1], 6, 40)
    assert passed(reuse, ["uncond", "cond"], [0, 1], 5, 50) == [50, 51, 52, 53], "of an earlier group"
    assert passed(reuse, ["cond"], [0], 4, 60) == [52]


def test_a_frame_that_is_there_twice_is_computed():
    reuse = FeatureReuse(Unet(), [9, 8], 2, frames=2)
    passed(reuse, ["cond"], [0, 1], 9, 10)
    assert passed(reuse, ["cond"], [0, 0, 1], 8, 20) == [20, 21, 22]
    assert passed(reuse, ["cond"], [0, 1], 8, 30) == [10, 11]
