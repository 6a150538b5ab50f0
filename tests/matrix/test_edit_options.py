"""Nothing that is asked of an edit, or of a clip made from text, is ignored in silence.

Every setting of both, of every host and of every inversion is changed: the result must change, or a sentence must say
why not (an error or a warning). A setting that is new must be added to the tables here.
"""

import re
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapters.making import random_adapter
from evenreel import load, registry
from evenreel.adapters import checkpoint
from evenreel.adapters.checkpoint import Origin
from evenreel.adapters.settings import PromptTokenSettings
from evenreel.backbones import load_backbone
from evenreel.errors import EvenreelError
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.settings.fields import leaves
from evenreel.workflows.editing.edit import edit_clip
from evenreel.workflows.editing.generate import generate_clip
from evenreel.workflows.editing.setup.callers import check_backbone, check_clip
from tiny import save_tiny, save_tiny_control

BASE = {
    "prompt": "a red ball",
    "source_prompt": "a blue ball",
    "size": 16,
    "steps": 4,
    "batch": 3,
    "keep": "off",
}
FEW = {"vidtome": {"chunk_size": 2}, "tokenflow": {"window": 2}, "vid2vid_zero": {"window": 2}}
"""Settings of hosts with which some of three frames see each other and some do not."""
SHARED = {
    "prompt": ("a green cube", {}),
    "negative_prompt": ("blurry", {}),
    "guidance_scale": (3.0, {}),
    "guidance_interval": ((0.0, 0.5), {}),
    "model": ("other", {}),
    "host": ("frame", {}),
    "host_options": ({"pnp_attn": 0.0}, {}),
    "steps": (5, {}),
    "cache_interval": (2, {}),
    "seed": (2, {}),
    "size": (32, {}),
    "control": ("control", {}),
    "control_kind": ("as-is", {"control": "control"}),
    "control_scale": (0.3, {"control": "control"}),
    "control_clip": ("clip", {"control": "control"}),
    "adapter": ("adapter", {}),
    "adapter_scale": (0.2, {"adapter": "adapter"}),
    "adapter_window": ("0:0.4", {"adapter": "adapter"}),
    "adapter_parts": ("shared", {"adapter": "adapter"}),
    "adapter_as_published": (True, {"adapter": "adapter"}),
    "dtype": ("bfloat16", {}),
    "batch": (1, {}),
}
"""By setting: another value, and what else is told so that it matters."""
EDIT = SHARED | {
    "source_prompt": ("a brown fox", {}),
    "inversion": ("ddim", {}),
    "inversion_options": ({"budget": 4.0}, {}),
    "inversion_steps": (8, {"inversion": "ddim"}),
    "frames": ((0, 2), {}),
}
GENERATE = SHARED | {
    "host_options": ({"motion_x": 99.0}, {}),
    "frames": (2, {}),
    "fps": (5.0, {}),
    "control": ("control", {}),
    "control_kind": ("as-is", {"control": "control", "control_clip": "clip"}),
    "control_scale": (0.3, {"control": "control", "control_clip": "clip"}),
    "control_clip": ("other clip", {"control": "control", "control_clip": "clip"}),
}
del GENERATE["batch"]  # memory against time: with `text2video_zero` frames do not see who else passes
NOT_OF_THE_RESULT = {
    "device": "where it is computed",
    "adapter_fused": "memory against time",
    "batch": "memory against time, where a host does not let frames of a batch see each other",
    "allow_truncated": "a permission: it counts for clips that are cut short",
    "allow_damaged": "a permission: it counts for clips that are damaged",
    "adapter_other_base": "a permission: it counts for adapters of other models",
}
"""Settings that must not change this clip, and why they are there."""
ELSEWHERE = {
    "vae": "workflows/editing/test_model_additions.py",
    "clip_skip": "workflows/editing/test_model_additions.py",
    "tokenizer": "backbones/test_single_file.py",
    "prediction_type": "backbones/test_single_file.py",
    "preset": "backbones/test_turns.py",
    "lora": "workflows/editing/test_model_additions.py",
    "embedding": "workflows/editing/test_model_additions.py",
    "prompt_syntax": "workflows/editing/test_model_additions.py",
    "depth_model": "workflows/editing/test_control_maps.py",
    "pose_model": "workflows/editing/test_control_maps.py",
    "person_detector": "workflows/editing/test_control_maps.py",
    "adapter_clip": "adapters/test_checkpoint.py",
    "adapter_frame_weight": "adapters/test_adapter.py",
    "reuse_source": "jobs/test_source_rows.py",
    "keep": "workflows/editing/test_regions.py",
    "mask": "workflows/editing/test_regions.py",
    "mask_frame": "workflows/editing/test_carried_mask.py",
    "mask_model": "workflows/editing/test_mask_models.py",
    "mask_words": "workflows/editing/test_mask_models.py",
    "mask_words_model": "workflows/editing/test_mask_models.py",
    "mask_words_threshold": "workflows/editing/test_mask_models.py",
    "remove": "workflows/editing/test_remove.py",
    "region": "workflows/editing/test_region_prompts.py",
    "region_prompt": "workflows/editing/test_region_prompts.py",
    "motion": "workflows/editing/test_motion_use.py",
    "motion_window": "workflows/editing/test_motion_use.py",
    "prompt_glide": "workflows/editing/test_schedule.py",
    "strength": "workflows/editing/test_schedule.py",
    "exact": "workflows/editing/test_quick.py",
    "cuts": "workflows/editing/test_cuts.py",
    "cut_threshold": "workflows/editing/test_cuts.py",
    "sound": "workflows/editing/test_edit_results.py",
    "sound_track": "video/test_sound.py",
    "fps": "workflows/editing/test_edit_results.py",
}
"""Settings whose effect takes files of their own to be seen, and the tests that look."""
HOST_VALUES = {
    "pnp_attn": 0.25,
    "p2p_cross": 0.25,
    "chunk_order": "rand",
    "mode": "sdedit",
    "motion_timestep": 300,
    "free_timestep": 990,
    "dense_block": 1,
    "window": 1,
    "self_attention": 1.0,
    "global_rand": 0.0,
    "motion_x": 512.0,
    "motion_y": 512.0,
    "anchor": 1,
    "keyframes_together": 1,
    "null_text": 0.5,
    "max_downsample": 1,
    "chunk_size": 1,
    "start": 0.5,
}
"""Other values, where they do not follow from the default."""
INVERSION_VALUES = {
    "budget": 4.0,
    "shared_noise": False,
    "iterations": 2,
    "mode": "feature-time",
    "kernel": 3,
    "edge": "valid",
    "inner_steps": 1,
    "end": 0.2,
}
MAKES_ROOM = {
    "iterations": {"budget": 4.0},
    "tolerance": {"budget": 4.0},
    "align_branches": {"pnp_attn": 0.0, "pnp_conv": 0.0},
    "start": {"mode": "sdedit"},
}
"""What else must be told for a setting of a host or an inversion to matter."""


@pytest.fixture(scope="module")
def places(tiny_folder, clip_with_sound, tmp_path_factory):
    """Names in the tables, and the files that they mean."""
    folder = tmp_path_factory.mktemp("matrix")
    backbone = load_backbone(str(tiny_folder), device="cpu")
    adapter = random_adapter(backbone, tokens=PromptTokenSettings(shared=3, select="none"))
    made = folder / "adapter.safetensors"
    checkpoint.save(adapter, made, Origin(base=backbone.fingerprint, base_name="tiny", licence="CC0-1.0"))
    images = folder / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (200, 80 * number, 10)).save(images / f"{number}.png")
    return {
        "control": save_tiny_control(folder / "control"),
        "adapter": made,
        "clip": clip_with_sound,
        "other clip": images,
    }


@pytest.fixture(scope="module")
def make(tiny_folder, tmp_path_factory, places, clip_with_sound):
    """Makes a clip; equal settings are computed once."""
    other = save_tiny(tmp_path_factory.mktemp("other"), seed=1)
    models = {name: str(folder) for name, folder in (("tiny", tiny_folder), ("other", other))}
    loaded, made = {}, {}
    clip = load(clip_with_sound, 0, 3)
    clip = replace(clip, frames=clip.frames[:, ::2, ::3].contiguous())  # a square, and quick

    def named(told):
        return {name: str(places[v]) if isinstance(v, str) and v in places else v for name, v in told.items()}

    def start(kind, told):
        key = (kind, repr(sorted(told.items(), key=repr)))
        if key not in made:
            told = named(told)
            model = told.pop("model", "tiny")
            dtype = told.get("dtype", "float32")
            if (model, dtype) not in loaded:
                loaded[model, dtype] = load_backbone(models[model], device="cpu", dtype=dtype)
            settings = kind.from_json(told)
            run = generate_clip if kind is GenerateSettings else edit_clip
            extra = () if kind is GenerateSettings else (clip,)
            result = run(*extra, settings, backbone=loaded[model, dtype])
            made[key] = result
        return made[key]

    return start


def differs(one, other):
    return (
        one.frames.shape != other.frames.shape
        or not torch.equal(one.frames, other.frames)
        or one.timestamps != other.timestamps
    )


def assert_counts(make, kind, name, value, told, *, inside=None):
    """A changed setting changes the result, is refused, or is spoken of."""
    changed = {**told, inside: {**told.get(inside, {}), name: value}} if inside else {**told, name: value}
    before = make(kind, told)
    try:
        after = make(kind, changed)
    except EvenreelError:
        return
    spoken = set(after.record["warnings"]) - set(before.record["warnings"])
    assert differs(before, after) or spoken, f"{name} = {value!r} changed nothing, and nothing was said"


@pytest.mark.parametrize("kind", [EditSettings, GenerateSettings])
def test_the_tables_hold_every_setting(kind):
    table = EDIT if kind is EditSettings else GENERATE
    names = {leaf.name for leaf in leaves(kind)}
    assert names == (set(table) | set(NOT_OF_THE_RESULT) | set(ELSEWHERE)) & names | set(table)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_settings_that_are_looked_at_elsewhere_are(name):
    text = (Path(__file__).parents[1] / ELSEWHERE[name]).read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", text), f"{ELSEWHERE[name]} says nothing of {name}"


@pytest.mark.parametrize("name", EDIT)
def test_settings_of_an_edit(make, name):
    value, more = EDIT[name]
    assert_counts(make, EditSettings, name, value, {**BASE, "host_options": FEW["vidtome"], **more})


@pytest.mark.parametrize("name", GENERATE)
def test_settings_of_a_clip_from_text(make, name):
    value, more = GENERATE[name]
    base = {key: BASE[key] for key in ("prompt", "size", "steps", "batch")}
    assert_counts(make, GenerateSettings, name, value, {**base, "frames": 3, **more})


def other_values(kind, table):
    """(setting, another value than its default)."""
    for one in fields(kind):
        if not one.init or one.default is MISSING:
            continue
        assert one.name in table or one.default is not None, f"another value for {one.name}"
        value = table.get(one.name)
        if value is None:
            value = not one.default if isinstance(one.default, bool) else one.default / 2 or 0.5
        yield one.name, value


def host_cases():
    for host in registry.names(registry.HOSTS):
        for name, value in other_values(registry.find(registry.HOSTS, host), HOST_VALUES):
            yield pytest.param(host, name, value, id=f"{host}.{name}")


@pytest.mark.parametrize(("host", "name", "value"), list(host_cases()))
@pytest.mark.parametrize("kind", [EditSettings, GenerateSettings], ids=["edit", "generate"])
def test_settings_of_hosts(make, kind, host, name, value):
    options = {**FEW.get(host, {}), **MAKES_ROOM.get(name, {})}
    options.pop(name, None)
    if kind is GenerateSettings:
        if host == "tokenflow":
            pytest.skip("tokenflow makes no clips from text, and says so")
        options = {key: value for key, value in options.items() if not key.startswith("pnp")}
        # some steps must lie where copies of the first frame are moved
        steps = 10 if host == "text2video_zero" else 4
        base = {"prompt": BASE["prompt"], "size": 32, "steps": steps, "batch": 3, "frames": 3}
    else:
        # coarse layers must be left where latents are small, and the source's attention must differ from the edit's
        base = BASE | {"size": 32, "inversion": "ddim"} if name == "self_attention" else dict(BASE)
    told = {**base, "host": host, "host_options": options}
    if name == "null_text":
        told |= (
            {"inversion": "null-text", "inversion_options": {"inner_steps": 1}}
            if "source_prompt" in told
            else {}
        )
    assert_counts(make, kind, name, value, told, inside="host_options")


def inversion_cases():
    for inversion in registry.names(registry.INVERSIONS):
        for name, value in other_values(registry.find(registry.INVERSIONS, inversion), INVERSION_VALUES):
            yield pytest.param(inversion, name, value, id=f"{inversion}.{name}")


@pytest.mark.parametrize(("inversion", "name", "value"), list(inversion_cases()))
def test_settings_of_inversions(make, inversion, name, value):
    room = MAKES_ROOM.get(name, {}) if inversion == "fixed-point" else {}
    told = {**BASE, "host": "frame", "inversion": inversion, "inversion_options": room}
    assert_counts(make, EditSettings, name, value, told, inside="inversion_options")


SWITCHED_OFF = {
    "prompt": ("a green cube", {"guidance_scale": 0.0}),
    "negative_prompt": ("blurry", {"guidance_scale": 1.0}),
    "inversion": ("null-text", {"guidance_scale": 1.0, "inversion_options": {}}),
    "seed": (2, {"host": "frame"}),
    "control_kind": ("as-is", {"control": "control", "control_scale": 0.0}),
    "control_clip": ("clip", {"control": "control", "control_scale": 0.0}),
    "control_scale": (0.3, {}),
    "adapter_scale": (0.3, {}),
    "adapter_window": ("0.99:1", {"adapter": "adapter"}),
    "adapter_fused": (True, {"adapter": "adapter", "adapter_scale": 0.0}),
    "adapter_as_published": (True, {"adapter": "adapter", "adapter_scale": 0.0, "inversion": "ddim"}),
    "seed of 33 bits": (2**32 + 1, {}),
}
"""Settings whose effect another value takes away: (value, what else is told)."""


@pytest.mark.parametrize("name", SWITCHED_OFF)
def test_what_another_value_switches_off_is_spoken_of(make, name):
    value, more = SWITCHED_OFF[name]
    told, setting = {**BASE, **more}, name.partition(" ")[0]
    try:
        before, after = make(EditSettings, told), make(EditSettings, {**told, setting: value})
    except EvenreelError:
        return
    # what switches it off is spoken of by itself, with either value
    assert differs(before, after) or after.record["warnings"]


@pytest.mark.parametrize("host", registry.names(registry.HOSTS))
def test_a_seed_that_changes_nothing_is_spoken_of(make, host):
    told = {**BASE, "host": host, "host_options": {}, "batch": 8}
    assert_counts(make, EditSettings, "seed", 2, told)
    # edit-friendly noise is drawn, so that the seed counts with every host
    assert differs(
        make(EditSettings, {**told, "inversion": "ddpm"}),
        make(EditSettings, {**told, "inversion": "ddpm", "seed": 2}),
    )


def test_a_sentence_is_logged_and_kept_in_the_record(make, caplog):
    with caplog.at_level("WARNING", "evenreel"):
        made = make(EditSettings, {**BASE, "host": "tokenflow", "guidance_scale": 0.0})
    assert "a guidance scale of 0 leaves the prompt out" in caplog.text
    assert any("leaves the prompt out" in notice for notice in made.record["warnings"])


def test_modes_of_pytorch_change_nothing(places, tiny_folder):
    told = {**BASE, "inversion": "null-text", "inversion_options": {"inner_steps": 1}, "host": "frame"}
    backbone = load_backbone(str(tiny_folder), device="cpu")
    clip, settings = load(places["clip"], 0, 2), EditSettings.from_json(told)
    wanted = edit_clip(clip, settings, backbone=backbone)
    with torch.inference_mode():
        assert not differs(edit_clip(clip, settings, backbone=backbone), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert not differs(edit_clip(clip, settings, backbone=backbone), wanted)
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(EvenreelError, match=r"default number type is torch\.float64"):
            edit_clip(clip, settings, backbone=backbone)
    finally:
        torch.set_default_dtype(torch.float32)


def test_frames_of_another_type_or_shape_are_refused(places):
    clip = load(places["clip"], 0, 3)
    for frames in (clip.frames.float() / 255, clip.frames.movedim(-1, 1), clip.frames[0], clip.frames[:0]):
        broken = object.__new__(type(clip))
        broken.__dict__.update({**clip.__dict__, "frames": frames})
        with pytest.raises(EvenreelError, match="frames of a clip must be"):
            check_clip(broken)
    with pytest.raises(EvenreelError, match="a timestamp for each frame"):
        check_clip(replace(clip, timestamps=clip.timestamps[:1]))


@pytest.mark.parametrize("wrong", ["in.mp4", 3, [1, 2], np.zeros((1, 2, 2, 3), np.uint8)])
def test_what_is_no_clip_and_no_model_is_refused(wrong):
    with pytest.raises(EvenreelError, match="a clip is wanted"):
        check_clip(wrong)
    with pytest.raises(EvenreelError, match="backbone must be a model"):
        check_backbone(wrong)
