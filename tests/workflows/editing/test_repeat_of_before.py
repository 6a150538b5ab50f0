"""Defaults may change: what is repeated from a record is what was made then, or a sentence says that it cannot be."""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest

from evenreel import registry
from evenreel.cli import main
from evenreel.errors import SettingsError
from evenreel.hosts.frame import FrameHost
from evenreel.inversions.base import create_inversion
from evenreel.inversions.flow_edit import FlowEditInversion
from evenreel.settings import Before, EditSettings, GenerateSettings, Range, settle
from evenreel.settings.fields import leaves
from evenreel.workflows.editing import as_then
from evenreel.workflows.editing.as_then import settings_of_then

TOLD = {"prompt": "a star", "host": "frame", "source_prompt": "a ball", "inversion": "ddim"}
FRAME = {"pnp_attn": None, "pnp_conv": 0.8, "p2p_cross": None}
FIRST = {
    "frame": "pnp_attn pnp_conv",
    "text2video_zero": "motion_x motion_y motion_timestep free_timestep pnp_attn pnp_conv anchor published "
    "published_chunks",
    "tokenflow": "mode window pnp_attn pnp_conv start keyframes_together published",
    "vid2vid_zero": "window anchor dense_block cross self_attention null_text published",
    "vidtome": "chunk_size local_merge_ratio global_merge_ratio global_rand merge_global chunk_order align_branches "
    "max_downsample pnp_attn pnp_conv",
    "bilateral": "mode kernel sigma_spatial sigma_intensity edge start end eta",
    "ddim": "",
    "ddpm": "skip guidance_scale shared_noise",
    "fixed-point": "budget iterations tolerance",
    "flow-edit": "skip guidance_scale shared_noise",
    "null-text": "inner_steps learning_rate",
}
"""Settings that the records of version 0.2.0 and before hold of hosts and inversions."""


def record(host=FRAME, told=TOLD, inversion=None, **more):
    return {
        "settings": {**told},
        "host": {"name": told["host"], "settings": host},
        "inversion": {"name": told["inversion"], "settings": inversion or {}},
        **more,
    }


def options(values):
    return dict(settings_of_then(values, from_text=False).host_options)


def test_a_record_of_today_needs_nothing_more():
    assert options(record()) == {}
    told = TOLD | {"host_options": {"pnp_attn": 0.2}}
    assert options(record(FRAME | {"pnp_attn": 0.2}, told)) == {"pnp_attn": 0.2}


def test_a_default_that_was_another_is_told():
    assert options(record(FRAME | {"pnp_conv": 0.6})) == {"pnp_conv": 0.6}


def test_a_record_of_before_attention_to_words_has_none():
    host = {"pnp_attn": 0.5, "pnp_conv": 0.8}
    assert options(record(host)) == {"pnp_attn": 0.5, "p2p_cross": 0.0}
    # what has no effect is not told: it would be refused
    assert options(record(host, TOLD | {"source_prompt": ""})) == {"pnp_attn": 0.5}


def test_a_record_of_before_shares_were_chosen_has_those_of_then():
    assert options(record({"pnp_attn": 0.5, "pnp_conv": 0.8, "p2p_cross": 0.5})) == {
        "pnp_attn": 0.5,
        "p2p_cross": 0.5,
    }


def test_an_inversion_is_what_it_was():
    settings = settings_of_then(
        record(
            told=TOLD | {"inversion": "flow-edit"},
            inversion={"skip": 0.25, "guidance_scale": 1.0, "shared_noise": True},
        ),
        from_text=False,
    )
    assert create_inversion(settings) == FlowEditInversion(
        skip=0.25, shared_noise=True, beside=False, antithetic=False
    )


def test_settings_of_a_run_that_are_newer_are_what_was_done_before():
    told = {"prompt": "a (red) star", "host": "frame"}
    settings = settings_of_then({"settings": told}, from_text=False)
    assert (settings.inversion, settings.motion, settings.prompt_syntax) == ("ddim", "off", "plain")
    assert settings_of_then({"settings": told}, from_text=True).motion == "off"


def test_a_setting_that_is_gone_is_said():
    with pytest.raises(SettingsError, match=r"host frame had a setting shine, .* evenreel 0\.1\.0\."):
        options(record(FRAME | {"shine": 2}, versions={"evenreel": "0.1.0"}))


def test_a_newer_setting_that_does_not_say_what_was_before_it_is_a_warning(monkeypatch, caplog):
    @dataclass(frozen=True, kw_only=True)
    class Newer(FrameHost):
        name: ClassVar[str] = "frame"
        glow: Annotated[float, Range(0.0, 1.0)] = 0.25
        blur: Annotated[float, Range(0.0, 1.0), Before(0.0)] = 0.75

        def __post_init__(self) -> None:
            settle(self, "frame.")

    monkeypatch.setattr(as_then, "create_host", lambda name, told, with_source: Newer(**told))
    assert options(record()) == {"blur": 0.0}
    assert "host frame has a setting glow that the record does not know, and it stays at 0.25" in caplog.text


@pytest.mark.parametrize("damaged", [3, {"settings": 3}, {"name": "vidtome", "settings": {"x": 1}}, None])
def test_records_that_list_nothing_are_as_they_were_told(damaged):
    assert options({**record(), "host": damaged}) == {}


@pytest.mark.parametrize("value", [[1], "much", 10**400, {"a": 1}])
def test_values_that_no_setting_can_have(value):
    with pytest.raises(SettingsError, match=r"pnp_conv"):
        options(record(FRAME | {"pnp_conv": value}))


@pytest.mark.parametrize("group", [registry.HOSTS, registry.INVERSIONS])
def test_whatever_is_newer_says_what_was_before_it(group):
    for name in registry.targets(group):
        if name not in FIRST:  # newer as a whole
            continue
        for leaf in leaves(registry.find(group, name)):
            known = leaf.name in FIRST[name].split()
            assert known or any(isinstance(one, Before) for one in leaf.added), (
                f"{name}.{leaf.name} needs Before(...)"
            )


@pytest.mark.parametrize("kind", [EditSettings, GenerateSettings])
def test_settings_of_runs_are_off_by_default_or_say_what_was_before_them(kind):
    first = "prompt negative_prompt guidance_scale model host host_options steps seed size device dtype batch"
    first += " motion_window source_prompt inversion_options inversion_steps frames fps sound control_kind"
    first += " control_scale"
    first += " cut_threshold"  # counts where cuts are found, and before there were cuts nothing was
    first += " mask_words_threshold"  # counts where a mask comes from words, and before it nothing did
    for leaf in leaves(kind):
        before = any(isinstance(one, Before) for one in leaf.added)
        assert leaf.name in first.split() or not leaf.default or before, leaf.name


def test_an_edit_is_repeated_with_the_defaults_of_then(tiny_folder, clip_with_sound, tmp_path, monkeypatch):
    told = [
        "edit",
        str(clip_with_sound),
        "-p",
        "a star",
        "--source-prompt",
        "a ball",
        "--model",
        str(tiny_folder),
    ]
    told += [
        "--steps",
        "2",
        "--inversion",
        "ddim",
        "--size",
        "32",
        "--frames",
        "0:2",
        "--host",
        "frame",
        "-q",
    ]
    then = ["--host-option", "pnp_conv=0", "--host-option", "p2p_cross=0"]
    assert main([*told, *then, "-o", str(tmp_path / "then")]) == 0
    assert main([*told, "-o", str(tmp_path / "now")]) == 0
    # as a version wrote it whose defaults were these, and that had no attention to words
    path = tmp_path / "then.json"
    values = json.loads(path.read_text())
    values["settings"]["host_options"] = {}
    del values["host"]["settings"]["p2p_cross"]
    path.write_text(json.dumps(values))
    assert main(["repeat", str(path), "-o", str(tmp_path / "again"), "-q"]) == 0

    def frames(name):
        return [file.read_bytes() for file in sorted((tmp_path / name).iterdir())]

    assert frames("again") == frames("then") != frames("now")
