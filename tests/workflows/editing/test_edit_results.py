"""What an edit leaves behind: a clip and its record that belong together, and never nothing after the work is done."""

import json
from pathlib import Path

import pytest
from PIL import Image

import evenreel
from evenreel import EditSettings, edit_file
from evenreel.backbones import load_backbone
from evenreel.errors import OutputError, SettingsError
from evenreel.outputs import Outputs
from evenreel.video import load, probe
from evenreel.video.hashing import hash_of
from video.making import audio_packets, moving, write_clip
from video.test_whole_or_damaged import flipped_pictures, textured


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def edit(backbone):
    def run(source: Path, target: Path, **changes):
        settings = EditSettings(**{"prompt": "a star", "steps": 1, "size": 32, "batch": 4, **changes})
        return edit_file(source, target, settings, backbone=backbone)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_results_of_like_names_keep_their_records(tmp_path, edit):
    source = write_clip(tmp_path / "in.mkv", moving(2))
    for _ in range(2):  # again: each replaces its own
        for name in ("moon.mp4", "moon.gif", "moon"):
            result = edit(source, tmp_path / name, sound="none")
            record = json.loads(result.record_path.read_text())
            assert record["output"]["path"] == str(tmp_path / name)
            files = [result.path] if result.path.is_file() else sorted(result.path.iterdir())
            assert record["output"]["sha256"] == hash_of(files)
    assert names(tmp_path) == [
        "in.mkv", "moon", "moon.frames.json", "moon.gif", "moon.gif.json", "moon.json", "moon.mp4",
    ]  # fmt: skip


def test_a_second_edit_of_one_output_is_refused_before_it_works(tmp_path, edit):
    source = write_clip(tmp_path / "in.mkv", moving(2))
    with Outputs(tmp_path / "out.mp4"), pytest.raises(OutputError, match="another run of evenreel"):
        edit(source, tmp_path / "out.mp4")


def test_the_record_says_what_became_of_the_sound(tmp_path, edit, clip_with_sound):
    told = {}
    for name, sound in (("a.mp4", "copy"), ("b.mp4", "encode"), ("c.mp4", "none"), ("d.gif", "copy")):
        record = edit(clip_with_sound, tmp_path / name, sound=sound).record
        told[name] = (record["sound"] and record["sound"]["copied"], len(record["warnings"]))
    assert told == {"a.mp4": (True, 0), "b.mp4": (False, 0), "c.mp4": (None, 0), "d.gif": (None, 1)}
    assert audio_packets(tmp_path / "a.mp4") == audio_packets(clip_with_sound)
    assert not probe(tmp_path / "c.mp4").has_audio


def test_a_clip_in_memory_is_saved_as_its_settings_say(tmp_path, backbone, clip_with_sound):
    edited = evenreel.edit(load(clip_with_sound), "a star", steps=1, size=32, sound="none", backbone=backbone)
    evenreel.save(edited, tmp_path / "a.mp4")
    assert not probe(tmp_path / "a.mp4").has_audio
    assert json.loads((tmp_path / "a.json").read_text())["sound"] is None


def test_a_damaged_clip_is_edited_with_leave_only(tmp_path, edit):
    source = write_clip(
        tmp_path / "in.mkv", textured(8), codec="ffv1", options={"level": "3"}
    )  # has checksums
    flipped_pictures(source, 0)
    with pytest.raises(evenreel.EvenreelError, match="is damaged at frame"):
        edit(source, tmp_path / "out.mp4")
    result = edit(source, tmp_path / "out.mp4", allow_damaged=True)
    assert "is damaged at frame" in result.record["warnings"][0]


def test_pictures_are_kept_where_the_result_cannot_be_written(tmp_path, edit, clip_with_sound, monkeypatch):
    def unreadable(path, final, size, written) -> None:
        if final.suffix == ".mp4":
            raise OutputError(f"{final} was written but cannot be read back (it holds nothing); try again.")

    monkeypatch.setattr("evenreel.video.write.read_back", unreadable)
    (tmp_path / "out-pictures.mkv").write_text("taken")
    with pytest.raises(
        OutputError, match=r"the pictures, without sound, are kept as .*out-pictures-2\.mkv\.$"
    ):
        edit(clip_with_sound, tmp_path / "out.mp4")
    assert len(load(tmp_path / "out-pictures-2.mkv").frames) == 7
    assert names(tmp_path) == ["out-pictures-2.mkv", "out-pictures.mkv"]


def test_folders_of_images_have_a_rate(tmp_path, edit, clip_with_sound):
    (tmp_path / "in").mkdir()
    for index, picture in enumerate(moving(3)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{index}.png")
    edit(tmp_path / "in", tmp_path / "out.mp4", fps=12.5)
    assert float(load(tmp_path / "out.mp4").end_time) == pytest.approx(3 / 12.5)
    with pytest.raises(SettingsError, match="fps is for folders of images"):
        edit(clip_with_sound, tmp_path / "out.mp4", fps=12.5)
