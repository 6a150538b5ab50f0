"""Settings check themselves, and travel through JSON unchanged."""

import copy
import json
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenreel.errors import SettingsError
from evenreel.settings import AdapterUse, ControlUse, EditSettings, GenerateSettings
from evenreel.settings.option_groups import LARGEST_SEED

PRINTABLE = st.characters(exclude_categories=("Cs", "Cc"))


def test_defaults_are_valid():
    assert EditSettings(prompt="a blue star").steps is None  # as is best for the model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": "a\0b"}, "U\\+0000"),
        ({"prompt": "a\ud800"}, "U\\+D800"),
        ({"source_prompt": "\x1b[2J"}, "source_prompt contains .* U\\+001B"),
        ({"negative_prompt": "\udfff"}, "negative_prompt"),
        ({"steps": 0}, "steps must be from 1 to 1000, got 0"),
        ({"steps": 1001}, "steps"),
        ({"guidance_scale": -0.1}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"seed": -1}, "seed"),
        ({"seed": LARGEST_SEED + 1}, "seed"),
        ({"batch": 0}, "batch"),
        ({"size": 4}, "size"),
        ({"size": (512, 0)}, "size"),
        ({"size": 100_000}, "size"),
        ({"frames": (-1, None)}, "frames must be START:END"),
        ({"frames": (4, 4)}, "got 4:4"),
        ({"steps": 20, "inversion_steps": 30}, "multiple of steps"),
        ({"steps": 20, "inversion_steps": 10}, "inversion_steps must be from 20"),
        ({"inversion": " "}, "inversion is empty"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"model": " "}, "model is empty"),
        ({"host": "a\0"}, "host contains"),
        (
            {"control": "folder", "control_kind": "edges"},
            "control_kind must be one of canny, depth, pose, as-is",
        ),
        ({"control": "folder", "control_kind": "pose"}, "needs pose maps"),
        ({"control": "mini-pose"}, "needs pose maps"),
        (
            {"control": "mini-pose", "control_kind": "depth"},
            "control mini-pose is shown pose maps, and control_kind is",
        ),
        ({"control": "folder", "control_kind": "depth"}, "needs depth maps"),
        ({"control": "folder", "control_scale": -1.0}, "control_scale"),
        ({"control_clip": "maps.mp4"}, "control_clip is for a ControlNet; name one with control"),
        ({"control": "a\0"}, "control contains"),
        ({"control": ["a", "b\0"]}, "control contains"),
        ({"control": ["a", 1]}, "control must be text"),
        ({"control": ["a", "b"], "control_scale": [1.0, -1.0]}, "control_scale must be from 0"),
        (
            {"control": ["a", "b"], "control_kind": ["canny"] * 3},
            "given 3 times, control 2 times; give it once",
        ),
        ({"control": ["a", "b"], "control_kind": ["as-is", "depth"]}, "needs depth maps"),
        ({"control_scale": [0.5, 1.0]}, "control_scale is for a ControlNet; name one with control"),
        ({"adapter": ["a", "b"]}, "adapter must be text"),
        ({"control_kind": "edges"}, "control_kind must be one of"),
        ({"adapter_scale": 0.5}, "adapter_scale is for an adapter; name one with adapter, or leave it out"),
        ({"adapter": "a", "adapter_scale": 11}, "adapter_scale must be from 0 to 10, got 11"),
    ],
)
def test_out_of_range_is_one_sentence(changes, words):
    with pytest.raises(SettingsError, match=words) as caught:
        EditSettings.from_json({"prompt": "x", **changes})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": 3},
        {"prompt": "x", "steps": "50"},
        {"prompt": "x", "steps": True},
        {"prompt": "x", "size": [1, 2, 3]},
        {"prompt": "x", "frames": [0]},
        {"prompt": "x", "host_options": {"a": [1]}},
        {"prompt": "x", "inversion_options": {"a": [1]}},
        {"prompt": "x", "inversion_options": "skip=0.5"},
        {"prompt": "x", "allow_truncated": 1},
        {"prompt": "x", "no_such_setting": 1},
        {},
    ],
)
def test_json_of_another_shape_is_refused(values):
    with pytest.raises(SettingsError):
        EditSettings.from_json(values)


@given(
    prompt=st.text(PRINTABLE, min_size=1).filter(str.strip),
    steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 100),
    seed=st.integers(0, LARGEST_SEED),
    size=st.none() | st.integers(8, 8192) | st.tuples(st.integers(8, 8192), st.integers(8, 8192)),
    frames=st.tuples(st.integers(0, 99), st.none() | st.integers(100, 200)),
    host_options=st.dictionaries(
        st.text(max_size=5), st.integers() | st.booleans() | st.none() | st.text(PRINTABLE, max_size=5)
    ),
)
def test_settings_survive_json(**values):
    settings = EditSettings(**values, inversion_options=values["host_options"])
    assert EditSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize("name", ["host_options", "inversion_options"])
def test_options_cannot_change_behind_its_back(name):
    options = {"pnp_attn": 0.5}
    settings = EditSettings(prompt="x", **{name: options})
    options["pnp_attn"] = 0.9
    assert getattr(settings, name)["pnp_attn"] == 0.5
    with pytest.raises(TypeError):
        getattr(settings, name)["pnp_attn"] = 0.9


def test_settings_can_be_copied_and_pickled():
    settings = EditSettings(prompt="a", host_options={"chunk_size": 2}, inversion_options={"skip": 0.5})
    for other in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):  # noqa: S301 - our own bytes
        assert other == settings
        with pytest.raises(TypeError):
            other.host_options["chunk_size"] = 3


def test_numbers_of_any_length_are_refused_in_words():
    with pytest.raises(SettingsError, match="guidance_scale"):
        EditSettings.from_json({"prompt": "a", "guidance_scale": 10**400})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"frames": 0}, "frames must be from 1"),
        ({"fps": 0.0}, "fps must be from 0.01"),
        ({"fps": float("inf")}, "fps must be from 0.01"),
        ({"control": "folder"}, "name a clip with control_clip"),
        ({"control": ["a", "b"], "control_clip": ["maps", ""]}, "name a clip with control_clip"),
        ({"steps": 1001}, "steps must be from 1 to 1000"),
    ],
)
def test_a_clip_from_text_that_cannot_be(changes, words):
    with pytest.raises(SettingsError, match=words):
        GenerateSettings.from_json({"prompt": "x", **changes})


@given(
    frames=st.integers(1, 99),
    fps=st.floats(0.01, 1000),
    size=st.none() | st.integers(8, 8192) | st.tuples(st.integers(8, 8192), st.integers(8, 8192)),
    host_options=st.dictionaries(st.text(max_size=5), st.integers() | st.text(PRINTABLE, max_size=5)),
)
def test_settings_of_clips_from_text_survive_json(**values):
    settings = GenerateSettings(prompt="x", **values)
    assert GenerateSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert settings.rate == pytest.approx(settings.fps)


def test_an_edit_is_no_clip_from_text():
    with pytest.raises(
        SettingsError, match="a clip made from text has no setting source_prompt; its settings are: adapter, "
    ):
        GenerateSettings.from_json({"prompt": "x", "source_prompt": "y"})


def test_rates_are_what_was_written():
    assert GenerateSettings(prompt="x", fps=23.976).rate == Fraction(2997, 125)


def test_what_belongs_together_is_told_flat_or_not():
    nested = EditSettings(
        prompt="x",
        adapter=AdapterUse(file="mini", scale=0.5),
        control=(ControlUse(model="folder", kind="as-is"),),
    )
    flat = {"adapter": "mini", "adapter_scale": 0.5, "control": "folder", "control_kind": "as-is"}
    assert EditSettings.from_json({"prompt": "x", **flat}) == nested
    assert {name: value for name, value in nested.to_json().items() if name in flat} == flat
    held = {"adapter": {"file": "mini", "scale": 0.5}, "control": {"model": "folder", "kind": "as-is"}}
    for control in (held["control"], ControlUse(model="folder", kind="as-is"), nested.control):
        assert EditSettings.from_json({"prompt": "x", **held, "control": control}) == nested


def test_several_of_a_kind():
    uses = (ControlUse(model="a", scale=0.5), ControlUse(model="b", kind="depth", scale=0.5, clip="maps"))
    nested = EditSettings(prompt="x", control=uses)
    flat = {
        "control": ["a", "b"],
        "control_kind": ["canny", "depth"],
        "control_scale": 0.5,
        "control_clip": ["", "maps"],
    }
    assert EditSettings.from_json({"prompt": "x", **flat}) == nested
    assert EditSettings.from_json(json.loads(json.dumps(nested.to_json()))) == nested
    assert EditSettings.from_json({"prompt": "x", "control": [uses[0], {"model": "b"}]}).control == (
        uses[0],
        ControlUse(model="b"),
    )
    assert EditSettings(prompt="x", control=()) == EditSettings(prompt="x")


def test_records_of_before_are_read():
    """They say "" for nothing, tell every setting of a control that is not there, and call frames as they are none."""
    control = {"control": "", "control_kind": "none", "control_scale": 1.0, "control_clip": ""}
    adapter = {"adapter": "", "adapter_scale": None, "adapter_window": "", "adapter_fused": False}
    assert EditSettings.from_json(
        {"prompt": "x", **control, "control_kind": "canny", **adapter}
    ) == EditSettings(prompt="x")
    shown = EditSettings.from_json({"prompt": "x", **control, "control": "folder", **adapter}).control
    assert shown == (ControlUse(model="folder", kind="as-is"),)


def test_off_is_not_written():
    values = EditSettings(prompt="x").to_json()
    assert values["control"] is None
    assert values["adapter"] is None
    assert not any(name.startswith(("control_", "adapter_")) for name in values)


@pytest.mark.parametrize("name", ["model", "vae", "control", "adapter", "motion"])
def test_names_longer_than_those_of_files(name):
    for told in ("x" * 256, "/".join(["x" * 200] * 30)):
        with pytest.raises(SettingsError, match=rf"^{name} .*too long a name"):
            EditSettings.from_json({"prompt": "x", name: told})
    with pytest.raises(SettingsError, match=r"lora .*too long a name"):
        EditSettings.from_json({"prompt": "x", "lora": ["a", "é" * 128]})


def test_an_adapter_as_published_is_what_its_paper_says():
    told = {"prompt": "x", "adapter": "a", "adapter_as_published": True}
    settings = EditSettings.from_json(told)
    assert (settings.adapter.scale, settings.adapter.window, settings.inversion) == (
        0.5,
        "0.9:1",
        "bilateral",
    )
    own = EditSettings.from_json(told | {"adapter_scale": 1.0, "inversion": "ddim"})
    assert (own.adapter.scale, own.adapter.window, own.inversion) == (1.0, "0.9:1", "ddim")
    assert EditSettings.from_json(settings.to_json()) == settings
