"""Mixed precision: chosen where it is measured to pay, kept, and off bit for bit."""

import json

import pytest
import torch

from evenreel import EditSettings, edit_file
from evenreel.backbones import devices, load_backbone
from evenreel.jobs import places
from evenreel.workflows.editing import repeat
from evenreel.workflows.editing.records import record
from evenreel.workflows.editing.setup import number_type
from evenreel.workflows.editing.setup.run_setup import may_be_mixed


@pytest.fixture
def tiny(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(places.ROOT, str(tmp_path))
    return tmp_path / number_type.FILE


def rates(monkeypatch, bfloat16):
    monkeypatch.setattr(
        number_type, "matmul_rate", lambda dtype: bfloat16 if dtype == torch.bfloat16 else 100.0
    )


def call(backbone):
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return backbone.predict_noise(latents, 500, backbone.embed(["a star"]))


@torch.inference_mode()
def test_mixed_is_near_float32_and_off_is_bit_for_bit_off(tiny):
    before = call(tiny)
    tiny.mixed = True
    mixed = call(tiny)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, before)
    assert (mixed - before).norm() < 0.02 * before.norm()  # bfloat16 keeps 8 bits: 0.004 a rounding
    assert {weight.dtype for weight in tiny.unet.parameters()} == {torch.float32}
    tiny.mixed = False
    assert torch.equal(call(tiny), before)


@pytest.mark.parametrize(("seconds", "expected"), [([0.2, 0.1], True), ([0.2, 0.18], False)])
def test_it_is_chosen_where_it_is_clearly_faster(tiny, monkeypatch, cache, seconds, expected):
    rates(monkeypatch, 200.0)
    monkeypatch.setattr(number_type, "LITTLE", 1)
    monkeypatch.setattr(number_type, "measured", lambda *_: seconds)
    number_type.choose(tiny, 8)
    assert tiny.mixed == expected
    assert list(json.loads(cache.read_text()).values()) == [seconds]


def test_a_model_that_is_little_is_not_measured(tiny, monkeypatch):
    rates(monkeypatch, 200.0)
    monkeypatch.setattr(number_type, "measured", lambda *_: pytest.fail("was measured"))
    number_type.choose(tiny, 8)
    assert not tiny.mixed


def test_what_was_measured_is_kept_by_rows(tiny, monkeypatch, cache):
    rates(monkeypatch, 200.0)
    monkeypatch.setattr(number_type, "LITTLE", 1)
    asked = []
    monkeypatch.setattr(number_type, "measured", lambda _, rows: asked.append(rows) or [0.2, 0.1])
    for batch in (8, 8, 2):
        number_type.choose(tiny, batch)
    assert asked == [24, 6]
    for damaged in ("[]", "{", json.dumps({key: ["a", 1.0] for key in json.loads(cache.read_text())})):
        cache.write_text(damaged)
        number_type.choose(tiny, 8)
    assert asked == [24, 6, 24, 24, 24]


def test_a_processor_that_is_slow_in_it_is_not_asked(tiny, monkeypatch):
    rates(monkeypatch, 110.0)
    monkeypatch.setattr(number_type, "measured", lambda *_: pytest.fail("was measured"))
    number_type.choose(tiny, 8)
    assert not tiny.mixed


def test_measuring_leaves_the_model_as_it_was(tiny):
    before = call(tiny)
    plain, mixed = number_type.measured(tiny, 6)
    assert plain > 0
    assert mixed > 0
    assert not tiny.mixed
    assert torch.equal(call(tiny), before)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"host": "frame"}, True),
        ({"host": "frame", "exact": True}, False),
        ({"host": "frame", "dtype": "float32"}, False),
        ({"host": "vidtome"}, False),
        ({}, True),  # mini has motion modules, and its host is `frame`
        ({"motion": "off"}, False),
    ],
)
def test_runs_that_may_be_mixed(changes, expected):
    assert may_be_mixed(EditSettings(prompt="a star", **changes)) == expected


def test_a_mixed_edit_is_repeated_as_it_was_or_where_that_is_slow_in_float32(
    tiny_folder, clip_with_sound, tmp_path, monkeypatch
):
    settings = EditSettings(
        prompt="a star", model=str(tiny_folder), device="cpu", dtype="mixed", steps=1, size=32, frames=(0, 1)
    )
    monkeypatch.setattr(devices, "is_slow", lambda *_: False)
    made = edit_file(clip_with_sound, tmp_path / "a.mp4", settings)
    found = {}
    for slow in (False, True):
        monkeypatch.setattr(repeat, "is_slow", lambda *_, slow=slow: slow)
        found[slow] = repeat.repeat_edit(made.record_path, tmp_path / f"{slow}.mp4").record
    assert found[False]["settings"] == made.record["settings"]
    assert found[False]["output"]["sha256"] == made.record["output"]["sha256"]
    assert [found[slow]["settings"]["dtype"] for slow in (False, True)] == ["mixed", "float32"]


def test_records_name_it(tiny):
    assert record.machine(tiny)["dtype"] == "float32"
    tiny.mixed = True
    assert record.machine(tiny)["dtype"] == "mixed"
