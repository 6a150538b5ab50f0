"""ControlNets: what gets in, and what they add."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from closeness import assert_apart, rows_apart
from evenreel.backbones import load_backbone, mini
from evenreel.backbones.control import Controls, load_control
from evenreel.errors import WeightsError
from one_file import control_tensors, save_checkpoint, sd_control, sd_unet
from tiny import save_tiny_control

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved_control(tmp_path_factory):
    """A tiny ControlNet's folder; not to be changed."""
    return save_tiny_control(tmp_path_factory.mktemp("control"))


@pytest.fixture
def control_folder(saved_control, tmp_path):
    """A copy of it, to damage."""
    return shutil.copytree(saved_control, tmp_path / "control")


@pytest.fixture(scope="module")
def net(saved_control, tiny):
    return load_control(str(saved_control), tiny)


def maps(frames, channels=1, seed=0, size=64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, channels, size, size), dtype=torch.uint8, generator=generator)


def inputs(tiny, frames):
    latents = torch.randn(2 * frames, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return latents, list(range(frames)), 401, tiny.embed(["a ball", "blurry"])


@torch.no_grad()
def predicted(tiny, control, frames=3):
    latents, numbers, timestep, embeds = inputs(tiny, frames)
    return tiny.predict_noise(
        latents, timestep, embeds, control.residuals(latents, numbers, timestep, embeds)
    )


@torch.no_grad()
def test_a_scale_of_nothing_is_no_control(net, tiny):
    latents, _, timestep, embeds = inputs(tiny, 3)
    without = tiny.predict_noise(latents, timestep, embeds)
    assert torch.equal(predicted(tiny, net.showing(maps(3), 0.0)), without)
    assert_apart(predicted(tiny, net.showing(maps(3))), without, by=0.01)


def test_each_frame_sees_its_own_condition_in_every_branch(net, tiny):
    one, other = maps(3), maps(3)
    other[1] = 255 - other[1]
    both = (predicted(tiny, net.showing(maps_shown)) for maps_shown in (one, other))
    assert rows_apart(*both) == [False, True, False] * 2


def test_grey_conditions_are_colourless_ones(net, tiny):
    grey = maps(2)
    assert torch.equal(
        predicted(tiny, net.showing(grey), 2), predicted(tiny, net.showing(grey.expand(-1, 3, -1, -1)), 2)
    )


@torch.no_grad()
def test_rows_in_front_get_nothing(net, tiny):
    latents, numbers, timestep, embeds = inputs(tiny, 2)
    found = net.showing(maps(2)).residuals(latents, numbers, timestep, embeds)
    for padded, plain in zip(
        (*found.behind(3).down, found.behind(3).mid), (*found.down, found.mid), strict=True
    ):
        assert not padded[:3].any()
        assert torch.equal(padded[3:], plain)


def test_equal_weights_have_equal_fingerprints(net, control_folder, tiny, tmp_path):
    assert load_control(str(control_folder), tiny).fingerprint == net.fingerprint
    other = save_tiny_control(tmp_path / "other", seed=1)
    assert load_control(str(other), tiny).fingerprint != net.fingerprint


def refused(folder, backbone, said):
    with pytest.raises(WeightsError, match=said) as caught:
        load_control(str(folder), backbone)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def test_one_for_another_model(tiny, tmp_path):
    folder = save_tiny_control(tmp_path / "wide", cross_attention_dim=64)
    refused(folder, tiny, r"made for another model \(cross_attention_dim is 64, the model's is 32\)")


def test_a_model_is_no_control(saved, tiny):
    refused(saved / "unet", tiny, "must be a plain ControlNetModel, got UNet2DConditionModel")


def test_weights_cut_short(control_folder, tiny):
    file = control_folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    refused(control_folder, tiny, "fetch it again")


def test_pickles(control_folder, tiny):
    (control_folder / WEIGHTS).rename(control_folder / "diffusion_pytorch_model.bin")
    refused(control_folder, tiny, "pickles can run code")


def test_nan(control_folder, tiny):
    from safetensors.torch import load_file

    tensors = load_file(control_folder / WEIGHTS)
    tensors["conv_in.weight"][0] = float("nan")
    save_file(tensors, control_folder / WEIGHTS)
    refused(control_folder, tiny, "NaN")


def test_weights_that_are_lacking(control_folder, tiny):
    from safetensors.torch import load_file

    tensors = load_file(control_folder / WEIGHTS)
    del tensors["controlnet_mid_block.weight"]
    save_file(tensors, control_folder / WEIGHTS)
    refused(control_folder, tiny, "1 weights are missing")


def test_a_sum_that_does_not_match(control_folder, tiny):
    (control_folder / "SHA256SUMS").write_text(f"{'0' * 64}  {WEIGHTS}\n")
    refused(control_folder, tiny, "differs from its checksum")


def test_conditions_of_another_kind(control_folder, tiny):
    config = json.loads((control_folder / "config.json").read_text())
    (control_folder / "config.json").write_text(json.dumps(config | {"conditioning_channels": 1}))
    refused(control_folder, tiny, "three channels")


def test_absent(tiny, tmp_path):
    refused(tmp_path / "nowhere", tiny, "no such model folder")
    refused("owner/control", tiny, "not on this machine.*about 1.4 GB for a ControlNet")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A tiny SD 1.x whose layers are counted as in files of one piece."""
    folder, _ = save_checkpoint(tmp_path_factory.mktemp("first"))
    return load_backbone(str(folder), device="cpu")


@torch.no_grad()
def added(net, backbone):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = net.showing(maps(2, 3)).residuals(latents, [0, 1], 401, backbone.embed(["a ball"]))
    return [*found.down, found.mid]


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_one_file_is_its_folder(first, tmp_path, prefix):
    net = sd_control(sd_unet())
    net.save_pretrained(tmp_path / "folder")
    tensors = {name: t.contiguous() for name, t in control_tensors(net, prefix).items()}
    save_file(tensors, tmp_path / "control.safetensors")
    weights = tmp_path / "folder" / WEIGHTS
    shutil.copy(weights, tmp_path / "alone.safetensors")
    wanted = added(load_control(str(tmp_path / "folder"), first), first)
    assert max(float(tensor.abs().max()) for tensor in wanted) > 1e-2
    for form in (tmp_path / "control.safetensors", tmp_path / "alone.safetensors", weights):
        found = added(load_control(str(form), first), first)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))


@torch.no_grad()
def test_several_are_added_up(first, tmp_path):
    nets = []
    for seed in (0, 1):
        sd_control(sd_unet(), seed).save_pretrained(tmp_path / str(seed))
        nets.append(load_control(str(tmp_path / str(seed)), first))
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    both = Controls((nets[0].showing(maps(2), 0.5), nets[1].showing(maps(2, seed=1))))
    found = both.residuals(latents, [0, 1], 401, first.embed(["a ball"]))
    apart = [c.residuals(latents, [0, 1], 401, first.embed(["a ball"])) for c in both.controls]
    assert torch.allclose(found.mid, apart[0].mid + apart[1].mid, atol=1e-6)
    assert both.nets == (nets[0].net, nets[1].net)


@torch.no_grad()
def test_several_are_as_in_diffusers(first, tmp_path):
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    for seed in (0, 1, 2):
        sd_control(sd_unet(), seed).save_pretrained(tmp_path / str(seed))
    nets = [load_control(str(tmp_path / str(seed)), first) for seed in (0, 1, 2)]
    shown, scales = [maps(2, 3, seed) for seed in (0, 1, 2)], [0.5, 1.0, 0.0]
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = first.embed(["a ball", "blurry"])
    ours = Controls(
        tuple(net.showing(one, scale) for net, one, scale in zip(nets, shown, scales, strict=True))
    ).residuals(latents, [0, 1], 401, embeds)
    down, mid = MultiControlNetModel([net.net for net in nets])(
        latents,
        401,
        encoder_hidden_states=embeds.repeat_interleave(2, dim=0),
        controlnet_cond=[(one / 255).repeat(2, 1, 1, 1) for one in shown],
        conditioning_scale=scales,
        return_dict=False,
    )
    for found, wanted in zip((*ours.down, ours.mid), (*down, mid), strict=True):
        assert float((found - wanted).abs().max()) <= 1e-6 * float(wanted.abs().max())


def test_files_of_other_kinds(first, tmp_path):
    save_file({"emb_params": torch.zeros(2, 64)}, tmp_path / "a.safetensors")
    refused(
        tmp_path / "a.safetensors", first, "is an embedding; give a ControlNet made for the model as control"
    )
    net = sd_control(sd_unet(cross_attention_dim=1024))
    tensors = {name: t.contiguous() for name, t in control_tensors(net).items()}
    save_file(tensors, tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", first, "ControlNet for Stable Diffusion 2.x, whose prompts have 1024")


def test_the_packaged_one_is_named_by_what_it_is_shown(saved_control, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(mini, "CONTROL", tmp_path / "none")
    with pytest.raises(WeightsError, match="no ControlNet is packaged for mini at present; train one with"):
        load_control("mini-depth", tiny)
    monkeypatch.setattr(mini, "CONTROL", saved_control)
    packaged = load_control("mini-pose", tiny)
    assert packaged.fingerprint == load_control(str(saved_control), tiny).fingerprint


def test_the_packaged_one_heeds_its_map():
    backbone = load_backbone("mini", device="cpu", dtype="float32")
    maps = torch.zeros(2, 3, 128, 128, dtype=torch.uint8)
    maps[0, :, 32:64, 32:64] = 255
    control = load_control("mini-depth", backbone).showing(maps)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    with torch.inference_mode():
        found = control.residuals(latents, [0, 1], 800, backbone.embed(["a red circle rolling over grass"]))
    assert all(one.abs().max() > 1e-3 for one in found.down)
    first, second = found.mid
    assert (first - second).abs().max() > 0.01 * first.abs().max()
