"""Steps that share deep features: what is shared, when, and that nothing else changes."""

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import torch

from evenreel.backbones import load_backbone
from evenreel.backbones.base import Residuals
from evenreel.backbones.deep_features import given, has_deep_features, is_given, taken
from evenreel.hosts import feature_reuse
from evenreel.hosts.feature_reuse import FeatureReuse
from tiny_xl import save_tiny_xl


@pytest.fixture(params=["1.x", "XL"])
def tiny(tiny_folder, tmp_path, request):
    folder = tiny_folder if request.param == "1.x" else save_tiny_xl(tmp_path / "xl")
    return load_backbone(str(folder), device="cpu")


def called(tiny, seed, residuals=None):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return tiny.predict_noise(latents, 500, tiny.embed(["a disc"]), residuals)


def control(tiny):
    """What a ControlNet might add to a call of `called`."""
    shapes = []
    with ExitStack() as hooks:
        for block in (tiny.unet.conv_in, *tiny.unet.down_blocks):
            hooks.callback(
                block.register_forward_hook(
                    lambda _block, _inputs, output: shapes.extend(
                        one.shape for one in (output[1] if isinstance(output, tuple) else [output])
                    )
                ).remove
            )
        hooks.callback(
            tiny.unet.mid_block.register_forward_hook(lambda *told: shapes.append(told[-1].shape)).remove
        )
        called(tiny, 0)
    generator = torch.Generator().manual_seed(0)
    *down, mid = (torch.randn(shape, generator=generator) for shape in shapes)
    return Residuals(tuple(down), mid)


def test_a_call_that_is_given_its_own_deep_features_is_the_call_itself_bit_for_bit(tiny):
    with taken(tiny.unet) as found:
        whole = called(tiny, 0)
    with given(tiny.unet, found[0]):
        assert is_given(tiny.unet)
        assert torch.equal(called(tiny, 0), whole)
        assert not torch.equal(called(tiny, 1), whole), "the first and the last block see the latents"
    assert not is_given(tiny.unet)


def test_what_a_controlnet_adds_stays_in_what_was_taken(tiny):
    residuals = control(tiny)
    with taken(tiny.unet) as found:
        whole = called(tiny, 0, residuals)
    assert not torch.equal(whole, called(tiny, 0))
    with given(tiny.unet, found[0]):
        assert torch.equal(called(tiny, 0, residuals), whole)


def test_afterwards_the_network_is_as_it_was(tiny):
    before = called(tiny, 0)
    with taken(tiny.unet) as found:
        called(tiny, 1)
    with pytest.raises(ZeroDivisionError), given(tiny.unet, found[0]):
        raise ZeroDivisionError
    assert torch.equal(called(tiny, 0), before)
    assert not any("forward" in vars(module) for module in tiny.unet.modules())


def test_all_but_the_outermost_layers_is_left_out(tiny):
    reached = []
    with taken(tiny.unet) as found:
        called(tiny, 0)
    for name, module in tiny.unet.named_modules():
        if "resnets." in name or "attentions." in name:
            module.register_forward_hook(lambda *_, name=name: reached.append(".".join(name.split(".")[:4])))
    with given(tiny.unet, found[0]):
        called(tiny, 0)
    last = tiny.unet.up_blocks[-1]
    end, number = f"up_blocks.{len(tiny.unet.up_blocks) - 1}", len(last.resnets) - 1
    kinds = ["resnets", "attentions"] if hasattr(last, "attentions") else ["resnets"]
    assert set(reached) == {f"{end}.{kind}.{number}" for kind in kinds}


def test_networks_without_deep_blocks():
    assert not has_deep_features(SimpleNamespace())
    assert not has_deep_features(SimpleNamespace(up_blocks=[torch.nn.Identity()]))


class Unet:
    """Says which rows are deep features of an earlier call."""

    device = torch.device("cpu")

    def __init__(self):
        self.found, self.maps = [], None

    def __call__(self, maps):
        self.found.append(maps.view(-1, 1, 1, 1))
        return (maps if self.maps is None else self.maps).flatten().tolist()


@pytest.fixture
def unet(monkeypatch):
    made = Unet()

    @contextmanager
    def fake_taken(_):
        made.found = []
        yield made.found

    @contextmanager
    def fake_given(_, maps):
        made.maps = maps
        yield
        made.maps = None

    monkeypatch.setattr(feature_reuse, "taken", fake_taken)
    monkeypatch.setattr(feature_reuse, "given", fake_given)
    return made


def passed(reuse, branches, frames, timestep, first):
    """Deep maps of a call whose own are numbers from `first` on."""
    maps = torch.arange(first, first + len(branches) * len(frames)).float()
    with reuse.passing(branches, frames, timestep):
        return reuse.unet(maps)


def test_rows_find_their_own_maps_whichever_frames_pass_together(unet):
    reuse = FeatureReuse(unet, [9, 8, 7, 6], 2, frames=3)
    assert passed(reuse, ["source", "uncond", "cond"], [0, 1, 2], 9, 10) == list(range(10, 19))
    assert passed(reuse, ["source", "cond"], [1, 2], 8, 50) == [11, 12, 17, 18]
    assert passed(reuse, ["source", "cond"], [0], 8, 60) == [10, 16]


def test_each_group_begins_anew(unet):
    reuse = FeatureReuse(unet, [9, 8, 7, 6, 5], 3, frames=1)
    found = [passed(reuse, ["cond"], [0], timestep, timestep)[0] for timestep in reuse.timesteps]
    assert found == [9, 9, 9, 6, 6]
    assert [reuse.begins_group(timestep) for timestep in reuse.timesteps] == [True, False, False, True, False]


def test_rows_that_the_group_does_not_have_are_computed(unet):
    reuse = FeatureReuse(unet, [9, 8, 7, 6, 5, 4], 3, frames=2)
    passed(reuse, ["cond"], [0, 1], 9, 10)
    assert passed(reuse, ["uncond", "cond"], [0, 1], 8, 20) == [20, 21, 22, 23], "guidance begins"
    assert passed(reuse, ["uncond", "cond"], [0, 1], 7, 30) == [20, 21, 22, 23]
    passed(reuse, ["cond"], [0, 1], 6, 40)
    assert passed(reuse, ["uncond", "cond"], [0, 1], 5, 50) == [50, 51, 52, 53], "of an earlier group"
    assert passed(reuse, ["cond"], [0], 4, 60) == [52]


def test_a_frame_that_is_there_twice_is_computed(unet):
    reuse = FeatureReuse(unet, [9, 8], 2, frames=2)
    passed(reuse, ["cond"], [0, 1], 9, 10)
    assert passed(reuse, ["cond"], [0, 0, 1], 8, 20) == [20, 21, 22]
    assert passed(reuse, ["cond"], [0, 1], 8, 30) == [10, 11]
