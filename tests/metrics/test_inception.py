"""The network of FID: its layout, what it computes, and the distances on it."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from evenreel.errors import WeightsError
from evenreel.metrics.base import measure
from evenreel.metrics.distribution import FrechetInception, KidInception, frechet_distance, kernel_distance
from evenreel.metrics.inception import Inception, Mixed
from evenreel.metrics.window import Inputs, cut, windows

TRAINED = 21_785_568
"""Numbers of torchvision's `inception_v3` (27,161,264) without its two classifiers (3,326,696 and 2,049,000)."""


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    network = Inception()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that matter
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    found = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    return {name: tensor.half() for name, tensor in found.items()}


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file({**tensors, "fc.weight": torch.zeros(2, 2048), "AuxLogits.fc.bias": torch.zeros(2)}, path)
    return path


@pytest.fixture(scope="module")
def network(file):
    return Inception.load(file, device="cpu")


def test_its_layout_is_torchvision_s_without_classifiers(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == TRAINED
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_6a.branch3x3.conv.weight"] == (384, 288, 3, 3)
    assert shapes["Mixed_6e.branch7x7dbl_5.conv.weight"] == (192, 192, 1, 7)
    assert shapes["Mixed_7a.branch7x7x3_4.bn.running_var"] == (192,)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["Mixed_7c.branch3x3_2a.conv.weight"] == (384, 384, 1, 3)
    assert shapes["Mixed_7b.branch_pool.conv.weight"] == (192, 1280, 1, 1)
    assert len([name for name in shapes if name.endswith("conv.weight")]) == 94


def convolved(tensors, name, x, stride=1, padding=0):
    """One layer, written out."""
    values = {part: tensors[f"{name}.{part}"].float() for part in ("conv.weight", "bn.weight", "bn.bias")}
    mean, var = (tensors[f"{name}.bn.{part}"].float() for part in ("running_mean", "running_var"))
    y = functional.conv2d(x, values["conv.weight"], stride=stride, padding=padding)
    scale = (values["bn.weight"] / (var + 0.001).sqrt())[:, None, None]
    return ((y - mean[:, None, None]) * scale + values["bn.bias"][:, None, None]).clamp(min=0)


@pytest.mark.parametrize("pool", ["average", "largest"])
@torch.no_grad()
def test_the_last_blocks_branch_by_branch(network, tensors, pool):
    name, width = ("Mixed_7b", 1280) if pool == "average" else ("Mixed_7c", 2048)
    block: Mixed = getattr(network, name)
    x = torch.rand(1, width, 4, 4, generator=torch.Generator().manual_seed(1))

    def layer(part, y, padding=0):
        return convolved(tensors, f"{name}.{part}", y, padding=padding)

    three = layer("branch3x3_1", x)
    double = layer("branch3x3dbl_2", layer("branch3x3dbl_1", x), 1)
    if pool == "average":
        inside = functional.avg_pool2d(torch.ones(1, 1, 4, 4), 3, 1, 1)
        pooled = functional.avg_pool2d(x, 3, 1, 1) / inside
    else:
        pooled = functional.max_pool2d(x, 3, 1, 1)
    wanted = torch.cat(
        [
            layer("branch1x1", x),
            layer("branch3x3_2a", three, (0, 1)),
            layer("branch3x3_2b", three, (1, 0)),
            layer("branch3x3dbl_3a", double, (0, 1)),
            layer("branch3x3dbl_3b", double, (1, 0)),
            layer("branch_pool", pooled),
        ],
        1,
    )
    assert (block(x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_distances_are_of_its_features(network):
    generator = torch.Generator().manual_seed(2)
    source, edit = (torch.rand(3, 3, 24, 32, generator=generator) for _ in range(2))
    inputs = Inputs(inception=network)
    kinds = {"fid": FrechetInception, "kid": KidInception}
    found = measure(windows(cut(source, edit, length=2), inputs), kinds, inputs)
    one, other = network.embed_frames(source), network.embed_frames(edit)
    assert one.shape == (3, 2048)
    assert found["fid"].value == pytest.approx(frechet_distance(one, other), rel=1e-4)
    assert found["kid"].value == pytest.approx(kernel_distance(one, other), rel=1e-4)
    assert found["fid"].note == "biased: from 3 frames; prefer kid_inception"
    same = measure(windows(cut(source, source), inputs), kinds, inputs)
    assert same["fid"].value <= 1e-6 * one.square().sum()
    without = measure(windows(cut(source, edit), Inputs()), kinds, Inputs())
    assert without["fid"].value is None
    assert "no Inception was given" in without["fid"].unavailable


def test_other_files_are_refused(tensors, tmp_path):
    def refused(found, match):
        save_file(found, tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match=match):
            Inception.load(tmp_path / "x.safetensors", device="cpu")

    few = dict(list(tensors.items())[:3])
    refused(few, "is not an Inception v3")
    name = "Conv2d_1a_3x3.conv.weight"
    refused({**tensors, name: tensors[name][:, :1].contiguous()}, "another shape")
    refused({**tensors, name: tensors[name] * torch.nan}, "not finite")
