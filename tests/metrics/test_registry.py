"""Metrics by name, built-in and somebody else's; what each says of itself."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from evenreel import registry
from evenreel.errors import PluginError
from evenreel.metrics.base import NEEDS, definition, find, measure, registered
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.workflows.inspect.metric_list import describe_metric, describe_metrics
from metrics.measuring import figure, value
from metrics.toy_metrics import Brightness, Nowhere

OWN = [name for name, target in registry.targets(registry.METRICS).items() if target.startswith("evenreel.")]
"""Those that no other package brought."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture
def plugins(monkeypatch):
    """Add entry points of the test's own."""
    found = []
    before = registry.entry_points

    def entry_points(*, group, name=None):
        mine = [entry for entry in found if entry.group == group and name in (None, entry.name)]
        return [*before(group=group, **({} if name is None else {"name": name})), *mine]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_of_checkout", tuple)

    def add(name, value):
        found.append(EntryPoint(name=name, value=value, group=registry.METRICS))

    return add


def test_the_built_in_ones_are_all_there():
    assert set(registered()) >= {
        "asked", "kept", "background_lpips", "background_psnr", "background_ssim", "background_warp_error", "clip_dir",
        "clip_f", "clip_t", "flicker", "foreground_clip_t", "foreground_truth_psnr", "foreground_warp_error",
        "frechet_clip", "frechet_inception", "kid_clip", "kid_inception", "lpips_consecutive", "lpips_source",
        "object_motion_iou", "object_truth_psnr",
        "object_warp_error", "q_edit", "rest_truth_psnr", "rest_warp_error", "ring_truth_psnr", "ring_warp_error",
        "s_edit", "saturation_ratio", "sharpness_ratio", "source_psnr", "source_ssim", "structure_distance",
        "truth_psnr", "truth_ssim", "warp_error", "warp_ssim",
    }  # fmt: skip


@pytest.mark.parametrize("name", registered())
def test_each_says_what_it_is(name):
    kind = find(name)
    assert len(definition(kind)) > 20
    assert definition(kind).endswith(".")
    assert kind.better in ("higher", "lower", "one")
    assert kind.label
    assert set(kind.needs) <= NEEDS.keys()


@pytest.mark.parametrize("name", OWN)
def test_a_built_in_one_is_documented(name):
    assert f"`{name}`" in DOCUMENT.read_text(encoding="utf-8")


def test_no_two_have_the_same_label():
    labels = [kind.label for kind in registered().values()]
    assert len(set(labels)) == len(labels)


def test_no_name_says_lpips_or_psnr_alone():
    """One must never wonder what was compared with what."""
    assert not {"lpips", "psnr", "ssim", "fid", "kid"} & set(registered())


def test_a_plug_in_is_a_metric_like_any_other(plugins):
    plugins("brightness", "metrics.toy_metrics:Brightness")
    frames = torch.full((3, 3, 8, 8), 0.25)
    assert find("brightness") is Brightness
    assert "brightness" in registered()
    assert value(Brightness, frames, frames, length=2) == pytest.approx(0.25)
    described = describe_metric("brightness")
    assert described.definition == "Mean brightness of the edit."
    assert described.available


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("metrics.toy_metrics:Absent", "fails to load"),
        ("metrics.toy_metrics:NO_METRIC", "not a class derived from"),
        ("metrics.toy_metrics:WithoutDirection", "must say better"),
        ("metrics.toy_metrics:Greedy", "need nothing but"),
    ],
)
def test_a_plug_in_that_is_none_is_told_of(plugins, target, words):
    plugins("broken", target)
    with pytest.raises(PluginError, match=words):
        find("broken")
    assert isinstance(registered()["broken"], PluginError)
    assert words in next(item for item in describe_metrics() if item.name == "broken").definition


def test_an_unknown_name():
    with pytest.raises(PluginError, match="no metric 'lpips'; there are: asked, background_lpips"):
        find("lpips")


def test_what_is_no_number_is_no_figure():
    frames = torch.rand(2, 3, 8, 8)
    assert figure(Nowhere, frames, frames).value is None
    assert "nan" in figure(Nowhere, frames, frames).unavailable


def test_order_is_kept_and_every_metric_is_accounted_for():
    frames = torch.rand(2, 3, 16, 16)
    kinds = {"b": find("clip_t"), "a": find("source_ssim")}
    found = measure(windows(cut(frames, frames), Inputs()), kinds, Inputs())
    assert list(found) == ["b", "a"]
    assert found["a"].value == pytest.approx(1)
    assert found["b"].value is None


class TestListed:
    def test_without_opencv_flow_is_missing(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        missing = describe_metric("warp_error").missing
        assert len(missing) == 1
        assert "pip install 'evenreel[metrics]'" in missing[0]

    def test_weights_are_missing_until_they_are_given(self):
        assert not describe_metric("lpips_source").available
        assert describe_metric("lpips_source", ["lpips"]).available
        assert describe_metric("background_lpips", ["lpips"]).needs == ("--lpips", "--mask")
