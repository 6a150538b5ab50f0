"""Prompts that change along a clip, and how far an edit may go."""

import pytest
import torch

from evenreel import EditSettings, GenerateSettings
from evenreel.backbones import load_backbone
from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host
from evenreel.inversions.base import create_inversion
from evenreel.progress import silent
from evenreel.settings.schedule import Schedule
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.repeat import repeat_edit
from hosts.jobs import random_latents
from video.making import moving, write_clip


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def edited(backbone, tiny_folder):
    def edit(prompt="a star", frames=4, host="frame", **changes):
        quick = {"steps": 4, "model": str(tiny_folder), "device": "cpu", "batch": 2, "host": host}
        settings = EditSettings(prompt=prompt, **{**quick, "source_prompt": "", **changes})
        made = create_inversion(settings)
        host_made = create_host(host, settings.host_options)
        pipeline = Pipeline(backbone, host_made, settings, silent, Stopwatch(torch.device("cpu")), made=made)
        latents = random_latents(frames).float()
        return latents, pipeline.edit(latents)

    return edit


def test_shares_glide_into_the_next_prompt_which_holds_in_full_at_its_frame():
    schedule = Schedule.of("0: red | 4: blue | 6: blue", glide=1)
    assert [schedule.shares(frame) for frame in range(7)] == [
        {"red": 1},
        {"red": 1},
        {"red": 1},
        {"red": 0.5, "blue": 0.5},
        *[{"blue": 1}] * 3,
    ]
    hard = Schedule.of("0:red|4:blue")
    assert [hard.shares(frame) for frame in (3, 4)] == [{"red": 1}, {"blue": 1}]


def test_text_that_names_no_frames_is_one_prompt():
    for text in ("a clock at 12:30", "red | blue", "a: b", ""):
        assert Schedule.of(text).cues == ((0, text),)
    assert Schedule.of("0: red | 4: blue", syntax="plain").cues == ((0, "0: red | 4: blue"),)


@pytest.mark.parametrize(
    ("prompt", "glide", "said"),
    [
        ("3: red", 0, "must say what frame 0 shows, and begins at frame 3"),
        ("0: red | 8: blue | 4: green", 0, "names frame 4 behind frame 8; put them in order, each once"),
        ("0: red | 0: blue", 0, "names frame 0 behind frame 0"),
        ("0: red | blue", 0, "must be FRAME: PROMPT between its bars, got 'blue'"),
        ("0: red | 4:", 0, "says nothing of what frame 4 shows"),
        ("0: red | 4: blue", 4, "prompt_glide must be less than the 4 frames from 0 to 4, got 4"),
        ("red", 2, "prompt_glide has no effect on a prompt that does not change"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_sentence(prompt, glide, said):
    with pytest.raises(SettingsError, match=said):
        EditSettings(prompt=prompt, prompt_glide=glide)


def test_a_change_behind_the_end_is_refused(edited):
    with pytest.raises(SettingsError, match="changes at frame 4, and the clip has 4, counted from 0"):
        edited("0: red | 4: blue")


@pytest.mark.parametrize("host", ["frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome"])
def test_a_constant_schedule_is_the_single_prompt_bit_for_bit(host, edited):
    _, single = edited("a star", host=host)
    _, constant = edited("0: a star | 2: a star", host=host, prompt_glide=1)
    assert torch.equal(single, constant)
    _, changing = edited("0: a star | 2: a cube", host=host)
    assert not torch.equal(single, changing)


def test_frames_that_do_not_see_each_other_are_those_of_their_own_prompts(edited):
    _, star = edited("a star", batch=4)
    _, cube = edited("a cube", batch=4)
    _, both = edited("0: a star | 2: a cube", batch=4)
    torch.testing.assert_close(both, torch.cat([star[:2], cube[2:]]), rtol=0, atol=1e-4)
    _, glided = edited("0: a star | 2: a cube", prompt_glide=1, batch=4)
    torch.testing.assert_close(glided[[0, 2, 3]], both[[0, 2, 3]], rtol=0, atol=1e-4)
    assert (glided[1] - star[1]).abs().max() > 1e-3


@pytest.mark.parametrize("inversion", ["ddim", "flow-edit"])
def test_strength_goes_from_the_source_to_the_edit(inversion, edited):
    source, full = edited(inversion=inversion)
    assert torch.equal(edited(inversion=inversion, strength=1.0)[1], full)
    assert torch.equal(edited(inversion=inversion, strength=0.0)[1], source)
    assert torch.equal(edited(inversion=inversion, strength=0.1)[1], source)
    _, half = edited(inversion=inversion, strength=0.5)
    assert not torch.equal(half, source)
    assert not torch.equal(half, full)


def test_the_record_has_all_of_it_and_repeats_it(backbone, tiny_folder, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", moving(4, 64, 64))
    settings = EditSettings(
        prompt="0: a star | 3: (a cube:1.3)",
        prompt_glide=1,
        strength=0.5,
        steps=2,
        host="frame",
        source_prompt="a ball",
        model=str(tiny_folder),
        device="cpu",
    )
    result = edit_file(clip, tmp_path / "out.mp4", settings, backbone=backbone)
    told = result.record["settings"]
    assert (told["prompt"], told["prompt_glide"], told["strength"]) == (settings.prompt, 1, 0.5)
    assert result.record["warnings"] == [
        "a prompt that changes along the clip switches off what compares its words with the source's."
    ]
    again = repeat_edit(result.record_path)
    assert again.path.read_bytes() == result.path.read_bytes()


def test_clips_from_text_change_too(backbone, tiny_folder):
    from evenreel.workflows.editing.generate import generate_clip

    quick = {"steps": 2, "frames": 3, "host": "frame", "model": str(tiny_folder), "device": "cpu", "size": 64}
    one = generate_clip(GenerateSettings(prompt="a star", **quick), backbone=backbone).frames
    constant = generate_clip(
        GenerateSettings(prompt="0: a star | 1: a star", **quick), backbone=backbone
    ).frames
    changing = generate_clip(
        GenerateSettings(prompt="0: a star | 2: a cube", **quick), backbone=backbone
    ).frames
    assert torch.equal(one, constant)
    assert not torch.equal(one, changing)
    with pytest.raises(SettingsError, match="changes at frame 5"):
        generate_clip(GenerateSettings(prompt="0: a star | 5: a cube", **quick), backbone=backbone)
