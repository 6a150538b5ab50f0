"""Clips made from text, and edits and clips under a ControlNet: what goes in and what must come out."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

import evenreel
from evenreel.backbones import load_backbone
from evenreel.errors import (
    ClipError,
    EvenreelError,
    OutputError,
    SettingsError,
    WeightsError,
)
from evenreel.hosts.base import create_host
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.video import load, probe
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.generate import generate_clip, generate_file
from evenreel.workflows.editing.repeat import repeat_edit
from tiny import save_tiny_control
from video.making import moving, write_clip


@pytest.fixture(scope="session")
def control_folder(tmp_path_factory):
    """A tiny ControlNet; not to be changed."""
    return save_tiny_control(tmp_path_factory.mktemp("tiny-control"))


@pytest.fixture
def settings(tiny_folder):
    def make(**changes) -> GenerateSettings:
        quick = {"prompt": "a star", "steps": 2, "model": str(tiny_folder), "device": "cpu", "frames": 3}
        return GenerateSettings.from_json({**quick, **changes})

    return make


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_frames_rate_and_size_are_those_asked_for(tmp_path, settings):
    result = generate_file(tmp_path / "out.mp4", settings(frames=5, fps=12.5, size=(90, 50)))
    info = probe(result.path)
    assert (info.frame_count, info.average_rate, info.width, info.height) == (5, Fraction(25, 2), 90, 50)
    assert result.record["working_size"] == [96, 48]
    assert left_in(tmp_path) == ["out.json", "out.mp4"]
    frames = load(result.path).frames
    assert all(not torch.equal(frames[0], frame) for frame in frames[1:])


@pytest.mark.parametrize(("size", "wanted"), [(None, (64, 64)), (32, (32, 32)), ((64, 32), (64, 32))])
def test_sizes(size, wanted, settings):
    clip = generate_clip(settings(size=size, frames=1))
    assert (clip.frames.shape[2], clip.frames.shape[1]) == wanted


def test_memory_and_file_agree(tmp_path, settings, tiny_folder):
    clip = evenreel.generate("a star", steps=2, model=str(tiny_folder), device="cpu", frames=3)
    assert clip.timestamps == (0, Fraction(1, 8), Fraction(1, 4))
    evenreel.save(clip, tmp_path / "memory.mp4")
    generate_file(tmp_path / "file.mp4", settings())
    assert (tmp_path / "memory.mp4").read_bytes() == (tmp_path / "file.mp4").read_bytes()
    records = [json.loads((tmp_path / name).read_text()) for name in ("memory.json", "file.json")]
    for name in ("settings", "model", "host", "frames", "command", "control", "working_size"):
        assert records[0][name] == records[1][name]


@pytest.mark.parametrize("host", ["text2video_zero", "frame", "vidtome"])
def test_hosts_that_need_no_source_inject_nothing(host, settings):
    clip = generate_clip(settings(host=host))
    assert clip.record["host"]["settings"]["pnp_attn"] == clip.record["host"]["settings"]["pnp_conv"] == 0
    assert clip.frames.shape == (3, 64, 64, 3)


def test_attention_across_frames_makes_clips_too(settings):
    clip = generate_clip(settings(host="vid2vid_zero"))
    assert clip.record["host"]["settings"]["cross"] == 0
    assert not torch.equal(clip.frames, generate_clip(settings(host="frame")).frames)


def test_injection_that_was_asked_for_is_an_error(settings):
    assert create_host("frame", with_source=False).pnp_conv == 0
    assert create_host("frame").pnp_conv == 0.8
    with pytest.raises(SettingsError, match="inverted source"):
        generate_clip(settings(host="frame", host_options={"pnp_attn": 0.5}))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"prompt": "a ball"}, {"negative_prompt": "a ball"}])
def test_every_setting_counts(changes, settings):
    assert not torch.equal(generate_clip(settings()).frames, generate_clip(settings(**changes)).frames)


class TestRecord:
    def test_repeating_gives_the_same_file(self, tmp_path, settings):
        first = generate_file(tmp_path / "out.mp4", settings(seed=3))
        again = repeat_edit(first.record_path)
        assert again.path == tmp_path / "out-repeated.mp4"
        assert again.path.read_bytes() == first.path.read_bytes()
        repeat_edit(first.record_path)  # as often as one likes

    def test_it_says_what_it_is(self, tmp_path, settings):
        record = generate_file(tmp_path / "out.mp4", settings()).record
        assert record == json.loads((tmp_path / "out.json").read_text())
        assert record["command"] == "generate"
        assert GenerateSettings.from_json(record["settings"]) == settings(
            guidance_scale=7.5,
            guidance_interval=(0.0, 1.0),
            host="text2video_zero",
            motion="off",
            dtype="float32",
        )
        assert {"load", "sample", "decode", "write"} == record["seconds"].keys()

    def test_a_changed_control_is_not_repeated(self, tmp_path, settings, clip_with_sound):
        control = save_tiny_control(tmp_path / "control")
        clip = write_clip(tmp_path / "shown.mp4", moving(3, 64, 64))
        first = generate_file(tmp_path / "out.mp4", settings(control=str(control), control_clip=str(clip)))
        assert repeat_edit(first.record_path).path.read_bytes() == first.path.read_bytes()
        save_tiny_control(control, seed=1)
        with pytest.raises(WeightsError, match=r"ControlNet .* no longer the one"):
            repeat_edit(first.record_path)
        save_tiny_control(control)
        values = json.loads(first.record_path.read_text())
        values["control"] = values["control"][0]  # as records of before hold it
        first.record_path.write_text(json.dumps(values))
        assert repeat_edit(first.record_path).path.read_bytes() == first.path.read_bytes()
        values["control"] = None
        first.record_path.write_text(json.dumps(values))
        with pytest.raises(SettingsError, match="settings name 1 ControlNets, and 0 are described"):
            repeat_edit(first.record_path)
        first = generate_file(first.path, settings(control=str(control), control_clip=str(clip)))
        write_clip(clip, moving(4, 64, 64))
        with pytest.raises(ClipError, match="no longer the clip"):
            repeat_edit(first.record_path)

    def test_several_controls_are_repeated(self, tmp_path, settings):
        folders = [str(save_tiny_control(tmp_path / name, seed=seed)) for seed, name in enumerate("ab")]
        clips = [str(write_clip(tmp_path / f"{n}.mp4", moving(n, 64, 64))) for n in (3, 4)]
        told = {"control": folders, "control_clip": clips, "control_kind": ["as-is", "canny"]}
        first = generate_file(tmp_path / "out.mp4", settings(**told))
        assert [Path(one["clip"]["path"]).name for one in first.record["control"]] == ["3.mp4", "4.mp4"]
        assert repeat_edit(first.record_path).path.read_bytes() == first.path.read_bytes()
        save_tiny_control(tmp_path / "b")
        with pytest.raises(WeightsError, match=r"ControlNet .*b is no longer the one"):
            repeat_edit(first.record_path)


class TestNothingIsLost:
    @pytest.mark.parametrize("name", ["out.mp4", "out.json"])
    def test_earlier_results_stay_where_told_and_are_replaced_else(self, name, tmp_path, settings):
        generate_file(tmp_path / "out.mp4", settings())
        before = {name: (tmp_path / name).read_bytes() for name in left_in(tmp_path)}
        (tmp_path / ("out.json" if name == "out.mp4" else "out.mp4")).unlink()
        with pytest.raises(OutputError, match=rf"{name} exists and is not to be replaced"):
            generate_file(tmp_path / "out.mp4", settings(seed=1), overwrite=False)
        assert (tmp_path / name).read_bytes() == before[name]
        generate_file(tmp_path / "out.mp4", settings(seed=1))
        assert (tmp_path / name).read_bytes() != before[name]

    def test_a_stranger_s_json_stays_in_any_case(self, tmp_path, settings):
        (tmp_path / "out.json").write_text('{"mine": true}')
        with pytest.raises(OutputError, match="not a record of evenreel"):
            generate_file(tmp_path / "out.mp4", settings())

    def test_the_control_s_clip_is_never_written_over(self, tmp_path, settings, control_folder):
        clip = write_clip(tmp_path / "shown.mp4", moving(3, 64, 64))
        shown = settings(control=str(control_folder), control_clip=str(clip))
        with pytest.raises(OutputError, match="source itself"):
            generate_file(clip, shown)

    @pytest.mark.parametrize("stage", ["generate", "decode and write"])
    def test_an_interrupt_leaves_nothing(self, stage, tmp_path, settings):
        def interrupt(now: str, done: int, total: int | None) -> None:
            if now == stage and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            generate_file(tmp_path / "out.mp4", settings(), progress=interrupt)
        assert left_in(tmp_path) == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"host": "no such host"},
            {"host": "tokenflow"},
            {"host_options": {"no_such": 7}},
            {"model": "no/such-model"},
            {"control": "no/such-model", "control_clip": "nowhere.mp4"},
        ],
    )
    def test_what_cannot_be_done_fails_before_anything_is_written(self, changes, tmp_path, settings):
        with pytest.raises(EvenreelError) as caught:
            generate_file(tmp_path / "out.mp4", settings(**changes))
        assert "\n" not in str(caught.value)
        assert left_in(tmp_path) == []


class TestControl:
    """A tiny ControlNet with random weights says nothing, but it must be heard."""

    def test_a_clip_takes_its_shape_and_frames(self, tmp_path, settings, control_folder):
        clip = write_clip(tmp_path / "shown.mp4", moving(3, 96, 64))
        shown = settings(control=str(control_folder), control_clip=str(clip))
        made = generate_clip(shown)
        assert made.frames.shape == (3, 64, 96, 3)
        other = write_clip(tmp_path / "other.mp4", moving(3, 96, 64)[::-1])
        assert not torch.equal(
            generate_clip(settings(control=str(control_folder), control_clip=str(other))).frames, made.frames
        )

    def test_too_short_a_clip_is_refused(self, tmp_path, settings, control_folder):
        clip = write_clip(tmp_path / "shown.mp4", moving(2, 64, 64))
        with pytest.raises(ClipError, match=r"shown\.mp4"):
            generate_clip(settings(control=str(control_folder), control_clip=str(clip)))

    def edits(self, tiny_folder, control_folder, source, tmp_path, **changes):
        quick = {
            "prompt": "a star",
            "steps": 1,
            "model": str(tiny_folder),
            "device": "cpu",
            "inversion": "ddim",
        }
        chosen = EditSettings.from_json({**quick, "control": str(control_folder), "host": "frame", **changes})
        result = edit_file(source, tmp_path / "edit", chosen)
        return load(result.path).frames, result.record

    def test_an_edit_sees_edges_of_its_source(self, tiny_folder, control_folder, clip_with_sound, tmp_path):
        args = (tiny_folder, control_folder, clip_with_sound, tmp_path)
        frames, record = self.edits(*args)
        (described,) = record["control"]
        assert len(described["fingerprint"]) == 64
        assert described["clip"] is None
        assert "control" in record["seconds"]
        off, record = self.edits(*args, control_scale=0.0)
        assert "a control scale of 0 leaves the ControlNet out." in record["warnings"]
        as_they_are, _ = self.edits(*args, control_kind="as-is")
        assert not torch.equal(frames, off)
        assert not torch.equal(frames, as_they_are)

    def test_each_of_several_is_at_work(self, tiny_folder, control_folder, clip_with_sound, tmp_path):
        other = save_tiny_control(tmp_path / "other", seed=1)
        args = (tiny_folder, control_folder, clip_with_sound, tmp_path)
        both = {"control": [str(control_folder), str(other)], "control_kind": ["canny", "as-is"]}
        alone, _ = self.edits(*args)
        together, _ = self.edits(*args, **both)
        first_only, _ = self.edits(*args, **both, control_scale=[1.0, 0.0])
        assert torch.equal(first_only, alone)
        assert not torch.equal(together, alone)
        assert not torch.equal(together, self.edits(*args, **both, control_scale=[0.0, 1.0])[0])

    def test_windows_and_ranges_change_nothing(self, tiny_folder, control_folder, clip_with_sound, tmp_path):
        args = (tiny_folder, control_folder, clip_with_sound, tmp_path)
        whole, _ = self.edits(*args, batch=7)
        part, _ = self.edits(*args, batch=2, frames=(3, 6))
        assert (part.int() - whole[3:6].int()).abs().max() <= 1
        # frames of a control clip are counted as those of the source
        whole, _ = self.edits(*args, control_kind="as-is", control_clip=str(clip_with_sound))
        part, _ = self.edits(*args, control_kind="as-is", control_clip=str(clip_with_sound), frames=(3, 6))
        itself, _ = self.edits(*args, control_kind="as-is", frames=(3, 6))
        assert (part.int() - whole[3:6].int()).abs().max() <= 1
        assert torch.equal(part, itself)

    def test_a_clip_with_a_frame_for_each_edited_one_is_of_that_part(
        self, tiny_folder, control_folder, clip_with_sound, tmp_path
    ):
        args = (tiny_folder, control_folder, clip_with_sound, tmp_path)
        cut = tmp_path / "cut"
        evenreel.save(load(clip_with_sound, 3, 6), cut)
        part, _ = self.edits(*args, control_kind="as-is", control_clip=str(cut), frames=(3, 6))
        itself, _ = self.edits(*args, control_kind="as-is", frames=(3, 6))
        assert torch.equal(part, itself)
        with pytest.raises(
            ClipError, match="has 3 frames for the ControlNet, and 2 are needed, or 6 numbered"
        ):
            self.edits(*args, control_clip=str(cut), frames=(4, 6))

    def test_a_clip_of_another_shape_is_spoken_of(
        self, tiny_folder, control_folder, clip_with_sound, tmp_path
    ):
        wide = write_clip(tmp_path / "wide.mp4", moving(7, 128, 32))
        _, record = self.edits(tiny_folder, control_folder, clip_with_sound, tmp_path, control_clip=str(wide))
        assert "128 x 32 and is stretched to" in record["warnings"][0]

    def test_in_memory_as_in_the_file(self, tiny_folder, control_folder, clip_with_sound, tmp_path):
        frames, _ = self.edits(tiny_folder, control_folder, clip_with_sound, tmp_path, frames=(2, 5))
        clip = evenreel.load(clip_with_sound, 1)
        backbone = load_backbone(str(tiny_folder), device="cpu")
        options = {"host": "frame", "steps": 1, "control": str(control_folder), "inversion": "ddim"}
        edited = evenreel.edit(clip, "a star", backbone=backbone, frames=(1, 4), **options)
        assert torch.equal(edited.frames, frames)
