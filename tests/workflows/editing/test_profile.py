"""`--profile`: what is counted is what was computed, and counting changes nothing."""

import json

import pytest
import torch
from torch import nn

from evenreel import EditSettings, edit_file
from evenreel.backbones import load_backbone
from evenreel.video import load
from evenreel.workflows.editing.records.profile import Profile
from evenreel.workflows.editing.records.resource_use import Stopwatch

FRAMES, STEPS = 4, 3


@pytest.fixture(scope="module")
def edited(tiny_folder, clip_with_sound, tmp_path_factory):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    folder = tmp_path_factory.mktemp("profiled")

    def run(name, *, profile=True, **changes):
        told = {"prompt": "a star", "source_prompt": "a disc", "keep": "off", "host": "frame", "steps": STEPS}
        settings = EditSettings(**{**told, "frames": (0, FRAMES), "size": 64, "batch": FRAMES, **changes})
        return edit_file(clip_with_sound, folder / name, settings, backbone=backbone, profile=profile)

    return run


def test_rows_and_calls_are_those_of_the_edit(edited):
    stages = edited("a.mkv").record["profile"]["stages"]
    assert (stages["sample"]["calls"], stages["sample"]["rows"]) == (STEPS, 3 * FRAMES * STEPS)
    assert (stages["encode"]["rows"], stages["decode"]["rows"]) == (FRAMES, FRAMES)
    assert stages["read"]["rows"] == stages["write"]["rows"] == 0
    halves = edited("b.mkv", batch=FRAMES // 2).record["profile"]["stages"]
    assert (halves["sample"]["calls"], halves["sample"]["rows"]) == (2 * STEPS, 3 * FRAMES * STEPS)
    assert halves["sample"]["gflop"] == pytest.approx(stages["sample"]["gflop"], rel=0.05, abs=0.1)


def test_steps_without_deep_blocks_count_for_less(edited):
    whole, shared = (
        edited(f"{n}.mkv", steps=4, cache_interval=n).record["profile"]["stages"]["sample"] for n in (1, 2)
    )
    assert shared["rows"] == whole["rows"]
    alone = edited("one.mkv", steps=4, cache_interval=4).record["profile"]["stages"]["sample"]["gflop"]
    # a group of 4 leaves the deep blocks out at three steps, a group of 2 at two
    assert whole["gflop"] - shared["gflop"] == pytest.approx(
        (whole["gflop"] - alone) * 2 / 3, rel=0.05, abs=0.1
    )
    assert shared["gflop"] < whole["gflop"]


def test_stages_are_parts_of_the_total(edited):
    profile = edited("c.mkv").record["profile"]
    lines, total = profile["stages"].values(), profile["total"]
    assert 0 < sum(line["seconds"] for line in lines) <= total["seconds"] + 0.01
    for name in ("calls", "rows", "gflop"):
        assert sum(line[name] for line in lines) == pytest.approx(total[name], abs=0.3)


def test_the_clip_is_the_same_without(edited):
    with_profile, without = edited("d.mkv"), edited("e.mkv", profile=False)
    assert "profile" not in without.record
    assert torch.equal(load(with_profile.path).frames, load(without.path).frames)


def test_operations_are_those_of_the_arithmetic():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.conv = nn.Linear(8, 6), nn.Conv2d(6, 5, 3, padding=1)

        def forward(self, x, times):
            out = self.conv(self.linear(x).permute(0, 2, 1).unflatten(2, (4, 4)))
            tokens = out.flatten(2).mT[:, None]
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens) * times

    net, watch = Net(), Stopwatch(torch.device("cpu"))
    profile = Profile(watch)
    with torch.inference_mode(), profile.follow(net), watch.stage("work"):
        for rows in (2, 3, 2):
            net(torch.randn(rows, 16, 8), 1.0)
    row = 2 * 16 * 8 * 6 + 2 * 16 * 6 * 5 * 9 + 2 * 2 * 16 * 16 * 5
    assert (profile.stages["work"].rows, profile.stages["work"].flop) == (7, 7 * row)
    net(torch.randn(2, 16, 8), 1.0)  # is not counted any more
    assert profile.stages["work"].calls == 3


def test_a_network_that_fails_is_left_as_it_was():
    profile, net = Profile(Stopwatch(torch.device("cpu"))), nn.Linear(2, 2)
    with pytest.raises(RuntimeError), profile.follow(net):
        net(torch.randn(1, 3))
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 2))
    assert counter.get_total_flops() == 8


def test_records_keep_it_as_json(edited):
    result = edited("f.mkv")
    assert json.loads(result.record_path.read_text())["profile"] == result.record["profile"]
