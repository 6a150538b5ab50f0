"""The edit from file to file: what goes in and what must come out."""

import dataclasses
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evenreel
from evenreel import EditSettings, edit_file
from evenreel.backbones import load_backbone
from evenreel.backbones.base import Guidance
from evenreel.errors import ClipError, EvenreelError, OutputError, ResourceError, SettingsError, WeightsError
from evenreel.ops import number_types
from evenreel.video import load, probe
from evenreel.workflows.editing.computing import sizes
from evenreel.workflows.editing.computing.sizes import model_size
from evenreel.workflows.editing.edit import EditedClip, edit_clip
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.repeat import repeat_edit
from hosts import golden
from tiny import save_tiny
from video.making import audio_packets, moving, write_clip


@pytest.fixture
def settings(tiny_folder):
    def make(**changes) -> EditSettings:
        quick = {"prompt": "a star", "steps": 2, "model": str(tiny_folder), "device": "cpu", "batch": 3}
        return EditSettings(**{**quick, **changes})

    return make


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_size_frames_times_and_sound_are_those_of_the_source(clip_with_sound, tmp_path, settings):
    result = edit_file(clip_with_sound, tmp_path / "out.mp4", settings())
    source, edited = load(clip_with_sound), load(result.path)
    assert edited.frames.shape == source.frames.shape
    assert edited.timestamps == source.timestamps
    assert audio_packets(result.path) == audio_packets(clip_with_sound)
    assert not torch.equal(edited.frames, source.frames)
    assert left_in(tmp_path) == ["out.json", "out.mp4"]


@pytest.mark.parametrize("host", ["frame", "vidtome"])
@pytest.mark.parametrize("size", [(36, 66), (33, 17), (96, 10), (2, 2)])
def test_any_aspect_ratio_on_either_host(size, host, tmp_path, settings):
    source = write_clip(tmp_path / "in.mkv", moving(3, *size), pixel_format="yuv444p")
    edit_file(source, tmp_path / "out.mp4", settings(host=host, steps=1))
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == size


def test_one_frame(tmp_path, settings):
    source = write_clip(tmp_path / "in.mp4", moving(1))
    assert edit_file(source, tmp_path / "out.mp4", settings()).record["frames"]["written"] == 1


def test_variable_frame_rate_is_kept(tmp_path, settings):
    times = [0, 400, 500, 1700, 1800]
    source = write_clip(tmp_path / "in.mkv", moving(5), times=times, time_base=Fraction(1, 1000))
    edit_file(source, tmp_path / "out.mkv", settings())
    assert load(tmp_path / "out.mkv").timestamps == load(source).timestamps


def test_film_rate_is_kept_exactly(tmp_path, settings):
    source = write_clip(tmp_path / "in.mp4", moving(4), rate=Fraction(24000, 1001))
    edit_file(source, tmp_path / "out.mp4", settings(frames=(1, 3)))
    assert probe(tmp_path / "out.mp4").average_rate == Fraction(24000, 1001)
    assert probe(tmp_path / "out.mp4").frame_count == 2


def test_a_turned_clip_stays_upright(tmp_path, settings):
    source = write_clip(tmp_path / "in.mp4", moving(2, 64, 32), rotation=(90, False, False))
    edit_file(source, tmp_path / "out.mp4", settings())
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == (32, 64)


def test_a_folder_of_images_into_a_folder(tmp_path, settings):
    (tmp_path / "in").mkdir()
    for index, picture in enumerate(moving(3)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{index}.png")
    result = edit_file(tmp_path / "in", tmp_path / "out", settings())
    assert len(left_in(tmp_path / "out")) == 3
    assert result.record_path == tmp_path / "out.json"


def test_windows_change_nothing(clip_with_sound, tmp_path, settings, monkeypatch):
    """Frames pass one by one or all at once: nothing is seen of it in the result."""
    frames = []
    for pixels in (1, 2**30):
        monkeypatch.setattr(sizes, "WINDOW_PIXELS", pixels)
        edit_file(clip_with_sound, tmp_path / "pictures", settings(batch=7, host="frame"))
        frames.append(load(tmp_path / "pictures").frames)
    assert (frames[0].int() - frames[1].int()).abs().max() <= 1


def test_the_same_prompt_without_guidance_reconstructs(tmp_path):
    """DDIM inversion then sampling on a smooth model is the autoencoder's round trip, whatever the clip."""
    backbone = load_backbone(str(save_tiny(tmp_path / "model", smooth=True)), device="cpu")
    clip = load(write_clip(tmp_path / "in.mp4", moving(3, 64, 64)))
    settings = {
        "steps": 20,
        "guidance_scale": 1.0,
        "source_prompt": "a star",
        "keep": "off",
        "host": "frame",
        "backbone": backbone,
    }
    edited = evenreel.edit(clip, "a star", **settings)
    frames = evenreel.video.to_model(clip.frames, (64, 64))
    autoencoded = backbone.decode(backbone.encode(frames))
    error = (evenreel.video.to_model(edited.frames, (64, 64)) - autoencoded).abs().mean()
    assert error < 0.02


class TestGuidance:
    """Told, or as the model wants it; either way the record says what it was."""

    @pytest.mark.parametrize(("told", "wanted"), [(None, 3.25), (1.5, 1.5)])
    def test_of_a_model_that_says_how_much_it_wants(self, clip_with_sound, settings, told, wanted):
        tiny = load_backbone(settings().model, device="cpu")
        tiny.guidance = Guidance(edit=3.25)
        used = self.used(tiny, clip_with_sound, settings(host="frame", guidance_scale=told))
        assert used == self.used(tiny, clip_with_sound, settings(host="frame", guidance_scale=wanted))
        assert used[1] == wanted

    def test_of_a_model_that_does_not_say(self, clip_with_sound, settings):
        tiny = load_backbone(settings().model, device="cpu")
        assert self.used(tiny, clip_with_sound, settings(host="frame"))[1] == 7.5

    def used(self, backbone, clip, settings):
        edited = edit_clip(load(clip, 0, 2), settings, backbone=backbone)
        return edited.frames.tolist(), edited.record["settings"]["guidance_scale"]


class TestRecord:
    def test_it_says_everything_needed(self, clip_with_sound, tmp_path, settings):
        chosen = settings(seed=5, frames=(1, 6), host_options={"chunk_size": 2})
        result = edit_file(clip_with_sound, tmp_path / "out.mp4", chosen)
        record = json.loads((tmp_path / "out.json").read_text())
        assert record == result.record
        assert EditSettings.from_json(record["settings"]) == dataclasses.replace(
            chosen,
            guidance_scale=7.5,
            guidance_interval=(0.0, 1.0),
            host="vidtome",
            motion="off",
            dtype="float32",
        )
        assert record["host"]["settings"]["chunk_size"] == 2
        assert record["frames"] == {"first": 1, "written": 5}
        assert {"evenreel", "python", "torch", "diffusers"} <= record["versions"].keys()
        assert {"load", "hash", "read", "encode", "invert", "sample", "decode", "write"} == record[
            "seconds"
        ].keys()
        assert record["source"]["average_rate"] == "25"
        assert len(record["model"]["fingerprint"]) == 64

    def test_repeating_gives_the_same_file(self, clip_with_sound, tmp_path, settings):
        first = edit_file(clip_with_sound, tmp_path / "out.mp4", settings(seed=3))
        again = repeat_edit(first.record_path)
        assert again.path == tmp_path / "out-repeated.mp4"
        assert again.path.read_bytes() == first.path.read_bytes()

    def test_another_seed_gives_another_file(self, clip_with_sound, tmp_path, settings):
        frames = []
        for seed in (0, 1):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(seed=seed))
            frames.append(load(tmp_path / "out.mp4").frames)
        assert not torch.equal(*frames)

    def test_a_changed_source_is_not_repeated(self, clip_with_sound, tmp_path, settings):
        source = shutil.copy(clip_with_sound, tmp_path / "in.mp4")
        first = edit_file(source, tmp_path / "out.mp4", settings())
        write_clip(Path(source), moving(3))
        with pytest.raises(ClipError, match="no longer the clip"):
            repeat_edit(first.record_path)

    def test_a_changed_model_is_not_repeated(self, clip_with_sound, tmp_path, settings):
        model = save_tiny(tmp_path / "model", seed=0)
        first = edit_file(clip_with_sound, tmp_path / "out.mp4", settings(model=str(model)))
        save_tiny(tmp_path / "model", seed=1)
        with pytest.raises(WeightsError, match="no longer the one"):
            repeat_edit(first.record_path)

    @pytest.mark.parametrize(
        "text", ["", "[1]", "{}", '{"settings": {}}', '{"settings": {}, "record_version": 99}']
    )
    def test_what_is_no_record_is_refused(self, text, tmp_path):
        (tmp_path / "out.json").write_text(text)
        with pytest.raises(SettingsError):
            repeat_edit(tmp_path / "out.json")


class TestNothingIsLost:
    def test_the_source_is_never_written_over(self, clip_with_sound, tmp_path, settings):
        source = Path(shutil.copy(clip_with_sound, tmp_path / "in.mp4"))
        before = source.read_bytes()
        os.link(source, tmp_path / "hard.mp4")
        (tmp_path / "soft.mp4").symlink_to(source)
        for name in ("in.mp4", "hard.mp4", "soft.mp4", "../" + tmp_path.name + "/in.mp4"):
            with pytest.raises(OutputError, match="source itself"):
                edit_file(source, tmp_path / name, settings())
        assert source.read_bytes() == before

    def test_a_stranger_with_the_name_of_the_record_stays(self, clip_with_sound, tmp_path, settings):
        (tmp_path / "out.json").write_text('{"mine": true}')
        with pytest.raises(OutputError, match="not a record of evenreel"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings())
        assert left_in(tmp_path) == ["out.json"]

    @pytest.mark.parametrize("stage", ["read and encode", "invert", "edit", "decode and write"])
    def test_an_interrupt_leaves_the_earlier_result_and_nothing_else(
        self, stage, clip_with_sound, tmp_path, settings
    ):
        edit_file(clip_with_sound, tmp_path / "out.mp4", settings())
        before = {name: (tmp_path / name).read_bytes() for name in left_in(tmp_path)}

        def interrupt(now: str, done: int, total: int | None) -> None:
            if now == stage and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(seed=9), progress=interrupt)
        assert {name: (tmp_path / name).read_bytes() for name in left_in(tmp_path)} == before

    @pytest.mark.parametrize(
        "changes",
        [
            {"steps": 1000, "inversion_steps": 1000, "host": "no such host"},
            {"host_options": {"pnp_attn": 7}},
            {"host_options": {"no_such": 7}},
            {"frames": (0, 100)},
            {"frames": (50, None)},
            {"model": "no/such-model"},
            {"device": "cuda:77"},
            {"device": "toaster"},
        ],
    )
    def test_what_cannot_be_done_fails_before_anything_is_written(
        self, changes, clip_with_sound, tmp_path, settings
    ):
        with pytest.raises(EvenreelError) as caught:
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(**changes))
        assert "\n" not in str(caught.value)
        assert left_in(tmp_path) == []


class TestInMemory:
    def test_three_lines(self, clip_with_sound, tmp_path, tiny_folder):
        clip = evenreel.load(clip_with_sound)
        edited = evenreel.edit(clip, prompt="a star", steps=2, model=str(tiny_folder), device="cpu")
        evenreel.save(edited, tmp_path / "out.mp4")
        assert isinstance(edited, EditedClip)
        assert edited.frames.shape == clip.frames.shape
        assert edited.timestamps == clip.timestamps
        assert audio_packets(tmp_path / "out.mp4") == audio_packets(clip_with_sound)

    def test_it_agrees_with_the_edit_of_the_file(self, clip_with_sound, tmp_path, tiny_folder):
        options = {"steps": 2, "model": str(tiny_folder), "device": "cpu", "frames": (2, 6), "batch": 4}
        evenreel.save(
            evenreel.edit(evenreel.load(clip_with_sound), "a star", **options), tmp_path / "memory.mp4"
        )
        edit_file(clip_with_sound, tmp_path / "file.mp4", EditSettings(prompt="a star", **options))
        memory, file = load(tmp_path / "memory.mp4"), load(tmp_path / "file.mp4")
        assert torch.equal(memory.frames, file.frames)
        assert memory.timestamps == file.timestamps

    def test_its_record_repeats_it(self, clip_with_sound, tmp_path, tiny_folder):
        clip = evenreel.load(clip_with_sound, 1)
        options = {"steps": 2, "model": str(tiny_folder), "device": "cpu", "frames": (1, 4), "batch": 3}
        evenreel.save(evenreel.edit(clip, "a star", **options), tmp_path / "out.mp4")
        again = repeat_edit(tmp_path / "out.json")
        assert torch.equal(load(again.path).frames, load(tmp_path / "out.mp4").frames)

    @pytest.mark.parametrize(
        "change",
        [
            lambda clip: dataclasses.replace(clip, frames=clip.frames // 2),
            lambda clip: dataclasses.replace(clip, frames=clip.frames[:, 8:, 8:]),
            lambda clip: dataclasses.replace(clip, frames=clip.frames[:2], timestamps=clip.timestamps[:2]),
            lambda clip: dataclasses.replace(clip, timestamps=tuple(2 * t for t in clip.timestamps)),
            lambda clip: clip.frames.numpy().fill(7) or clip,
        ],
        ids=["darkened", "cropped", "cut", "slowed", "written into"],
    )
    def test_what_was_changed_in_python_is_not_repeated(self, change, clip_with_sound, tmp_path, tiny_folder):
        def edited(clip):
            return evenreel.edit(clip, "a star", model=str(tiny_folder), device="cpu", steps=2, host="frame")

        evenreel.save(edited(change(evenreel.load(clip_with_sound, 0, 3))), tmp_path / "before.mp4")
        with pytest.raises(SettingsError, match="source was changed in Python after it was read"):
            repeat_edit(tmp_path / "before.json")
        evenreel.save(change(edited(evenreel.load(clip_with_sound, 0, 3))), tmp_path / "after.mp4")
        with pytest.raises(SettingsError, match="changed in Python before it was saved"):
            repeat_edit(tmp_path / "after.json")

    def test_an_edit_of_an_edit_and_of_a_clip_from_text(self, clip_with_sound, tmp_path, tiny_folder):
        quick = {"model": str(tiny_folder), "device": "cpu", "steps": 2}
        twice = evenreel.load(clip_with_sound, 0, 2)
        for _ in range(2):
            twice = evenreel.edit(twice, "a star", host="frame", **quick)
        assert twice.record["not_repeatable"] == "its source was changed in Python after it was read"
        made = evenreel.generate("a star", frames=2, size=64, **quick)
        assert "not_repeatable" not in made.record
        assert evenreel.edit(made, "a ball", host="frame", **quick).record["not_repeatable"] == (
            "its source was never a file"
        )

    def test_unknown_settings_are_named(self, clip_with_sound):
        with pytest.raises(SettingsError, match="stepz"):
            evenreel.edit(evenreel.load(clip_with_sound), "a star", stepz=3)

    def test_a_range_beyond_the_clip_is_refused(self, clip_with_sound):
        with pytest.raises(SettingsError, match="has 7 frames"):
            evenreel.edit(evenreel.load(clip_with_sound), "a star", frames=(7, None))


@pytest.fixture
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


class TestModelSize:
    @pytest.mark.parametrize(
        ("source", "size", "wanted"),
        [
            ((1920, 1080), 512, (912, 512)),
            ((1080, 1920), 512, (512, 912)),
            ((64, 64), None, (64, 64)),
            ((640, 480), 128, (176, 128)),
            ((1920, 1080), (640, 300), (640, 304)),
            ((10, 4000), 64, (16, 2048)),
        ],
    )
    def test_known_sizes(self, source, size, wanted, backbone):
        assert model_size(*source, size, backbone) == wanted

    def test_no_clip_takes_more_than_its_share(self, backbone):
        rng = np.random.default_rng(0)
        for width, height in np.exp(rng.uniform(0, np.log(8192), (500, 2))).astype(int) + 1:
            across, down = model_size(int(width), int(height), 128, backbone)
            assert across % 16 == down % 16 == 0
            assert across * down <= 2 * sizes.LARGEST_ASPECT * 128**2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_running_out_of_memory_comes_with_advice(error):
    with pytest.raises(ResourceError, match="fewer frames"), memory_errors_explained():
        raise error


@pytest.mark.parametrize(
    ("host", "inversion", "said"),
    [
        ("frame", "ddim", "smaller batch, which leaves the result as it is"),
        ("text2video_zero", "ddim", "smaller batch, which leaves the result as it is"),
        ("frame", "bilateral", "may change the result"),
        ("vidtome", "ddim", "may change the result"),
        ("auto", "ddim", "may change the result"),
    ],
)
def test_advice_on_memory_says_what_changes_the_result(host, inversion, said):
    with pytest.raises(ResourceError, match=said), memory_errors_explained(host, inversion):
        raise MemoryError


def test_advice_on_memory_names_bfloat16_only_where_it_helps(monkeypatch):
    def advice(**options):
        with pytest.raises(ResourceError) as caught, memory_errors_explained("frame", **options):
            raise MemoryError
        return str(caught.value)

    rates = {torch.float32: 75.0, torch.bfloat16: 100.0}
    monkeypatch.setattr(number_types, "_measured", lambda dtype, device: rates[dtype])
    assert "dtype bfloat16" in advice(device="cpu")
    assert "bfloat16" not in advice(device="cpu", dtype="bfloat16")
    rates[torch.bfloat16] = 0.97
    assert "bfloat16" not in advice(device="cpu")


def test_a_model_that_was_recorded_runs(clip_with_sound, tmp_path, settings):
    result = edit_file(clip_with_sound, tmp_path / "out.mp4", settings(model=golden.model()))
    assert result.record["frames"]["written"] == 7
