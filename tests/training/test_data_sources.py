"""Captions as people keep them: every form is read, every fault is named."""

import json

import pytest

from evenreel.errors import DataError, SettingsError
from evenreel.training.data.sources import ClipEntry, open_source, world_source
from training.making import image_clip, pictures


@pytest.fixture
def folder(tmp_path):
    """Three clips, `a`, `b/c` and `d`."""
    for name in ("a", "b/c", "d"):
        image_clip(tmp_path / name, pictures(1))
    return tmp_path


def captions_of(source) -> dict[str, tuple[str, ...]]:
    return {entry.name: entry.captions for entry in source.entries if entry.problem is None}


def problems_of(source) -> dict[str, str]:
    return {entry.name: entry.problem for entry in source.entries if entry.problem is not None}


WANTED = {"a": ("one", "zwei ☃"), "b/c": ("three",)}


def test_a_mapping(folder):
    (folder / "captions.json").write_text(json.dumps({"a": ["one", "zwei ☃"], "b/c": "three"}))
    assert captions_of(open_source(folder)) == WANTED


def test_a_list_of_objects(folder):
    rows = [
        {"file": "a", "caption": "one"},
        {"file": "b/c", "captions": ["three"]},
        {"file": "./a", "caption": "zwei ☃"},
    ]
    (folder / "captions.json").write_text(json.dumps(rows))
    assert captions_of(open_source(folder)) == WANTED


def test_a_table(folder):
    (folder / "captions.csv").write_text(
        "caption,file\none,a\n  zwei  ☃ ,a\nthree,b/c\n", encoding="utf-8-sig"
    )
    assert captions_of(open_source(folder)) == WANTED


def test_a_text_beside_each_clip(folder):
    (folder / "a.txt").write_text("one\n\nzwei ☃\n", encoding="utf-8")
    (folder / "b/c.txt").write_text("three")
    assert captions_of(open_source(folder)) == WANTED


def test_captions_kept_elsewhere(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "mine.json"
    path.write_text(json.dumps({"a": ["one", "zwei ☃"], "b/c": "three"}))
    assert captions_of(open_source(path, folder)) == WANTED


def test_captions_are_cleaned_and_what_is_left_out_is_counted(folder):
    captions = ["one", "one", "", "   ", 7, None, "bell\u0007", "broken \ud800", "x" * 5000, "zwei\n☃"]
    (folder / "captions.json").write_text(json.dumps({"a": captions, "b/c": "three"}))
    source = open_source(folder)
    assert captions_of(source) == WANTED
    assert sum(entry.dropped for entry in source.entries if isinstance(entry, ClipEntry)) == 8


def test_clips_that_cannot_be_used_are_named(folder):
    (folder / "e.mp4").write_bytes(b"x")
    table = {
        "a": "one",
        "gone.mp4": "x",
        "d": [""],
        "../secret": "x",
        "/etc/passwd": "x",
        "y" * 300: "x",
        "nul\0": "x",
    }
    (folder / "captions.json").write_text(json.dumps(table))
    source = open_source(folder)
    assert captions_of(source) == {"a": ("one",)}
    found = problems_of(source)
    assert found.pop("gone.mp4") == found.pop("y" * 300) == "there is no such file"
    assert found.pop("d") == found.pop("b/c") == found.pop("e.mp4") == "it has no captions"
    assert set(found) == {"../secret", "/etc/passwd", "nul\\x00"}
    assert set(found.values()) == {"its name leads out of the folder"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.json", "{"),
        ("captions.json", "[" * 100_000),
        ("captions.json", "7"),
        ("captions.json", '["a"]'),
        ("captions.json", '[{"caption": "x"}]'),
        ("captions.json", '{"videos": [{"id": 1}], "sentences": []}'),
        ("captions.json", '{"videos": [7], "sentences": []}'),
        ("captions.csv", "a,b\n1,2\n"),
        ("captions.csv", "file,caption\n" + "x" * 200_000 + ",1\n"),
        ("captions.csv", ""),
    ],
)
def test_damaged_captions_are_one_sentence(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(DataError) as caught:
        open_source(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(folder):
    (folder / "captions.csv").write_bytes(b"file,caption\na,caf\xe9\n")
    with pytest.raises(DataError, match=r"captions.csv is not text in UTF-8; save it as UTF-8"):
        open_source(folder)


def test_an_empty_folder_and_none_at_all(tmp_path):
    with pytest.raises(DataError, match="holds no clips"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        open_source(tmp_path / "no")
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="is not captions"):
        open_source(tmp_path / "a.mp4")


class TestMsrVtt:
    """MSR-VTT's JSON, with the fields that the published file has."""

    @pytest.fixture
    def archive(self, tmp_path):
        for number in (0, 1, 7):
            image = tmp_path / "TrainValVideo" / f"video{number}.mp4"
            image.parent.mkdir(exist_ok=True)
            image.write_bytes(b"x")
        videos = [
            {
                "category": 9,
                "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
                "video_id": f"video{number}",
                "start time": 137.72,
                "end time": 149.44,
                "split": "validate" if number == 7 else "train",
                "id": number,
            }
            for number in (0, 1, 2, 7)
        ]
        sentences = [
            {"caption": f"caption {i} of {video}", "video_id": video, "sen_id": i}
            for i, video in enumerate(["video0", "video0", "video7", "video2"])
        ]
        path = tmp_path / "train_val_videodatainfo.json"
        path.write_text(json.dumps({"info": {"year": "2016"}, "videos": videos, "sentences": sentences}))
        return path

    @pytest.mark.parametrize("given", ["folder", "file", "clips"])
    def test_it_is_found_and_read(self, archive, given):
        if given == "clips":
            source = open_source(archive, archive.parent / "TrainValVideo")
        else:
            source = open_source(archive if given == "file" else archive.parent)
        assert captions_of(source) == {
            "video0": ("caption 0 of video0", "caption 1 of video0"),
            "video7": ("caption 2 of video7",),
        }
        assert problems_of(source) == {"video1": "it has no captions", "video2": "there is no such file"}
        assert source.entries[0].cut == (137.72, 149.44)

    def test_a_split(self, archive):
        assert list(captions_of(open_source(archive, split="validate"))) == ["video7"]
        with pytest.raises(SettingsError, match="has no split 'test'; it has train, validate"):
            open_source(archive, split="test")

    def test_two_of_them(self, archive):
        (archive.parent / "test_videodatainfo.json").write_text(archive.read_text())
        with pytest.raises(DataError, match="name one of them"):
            open_source(archive.parent)


def test_the_world():
    source = world_source(3, first_seed=5)
    assert [entry.name for entry in source.entries] == ["world-5", "world-6", "world-7"]


@pytest.mark.parametrize(
    "details",
    [
        {"scenes": 0},
        {"scenes": 1, "first_seed": -1},
        {"scenes": 1, "objects": 3},
        {"scenes": 1, "frame_count": 1},
    ],
)
def test_a_world_that_cannot_be(details):
    with pytest.raises(SettingsError):
        world_source(**details)


def test_a_source_is_known_again_by_what_it_holds(folder):
    (folder / "captions.json").write_text(json.dumps({"a": "one"}))
    before = open_source(folder).description
    assert open_source(folder).description == before
    (folder / "captions.json").write_text(json.dumps({"a": "two"}))
    assert open_source(folder).description != before


def test_folders_of_images_without_captions_are_counted(folder):
    (folder / "a.txt").write_text("one")
    (folder / "empty").mkdir()
    source = open_source(folder)
    assert captions_of(source) == {"a": ("one",)}
    assert problems_of(source) == dict.fromkeys(("b/c", "d"), "it has no captions")


def test_a_picture_beside_a_video_is_not_a_clip(folder):
    (folder / "videos").mkdir()
    (folder / "videos/e.mp4").write_bytes(b"")
    (folder / "videos/cover.jpg").write_bytes(b"")
    assert "videos" not in problems_of(open_source(folder))


def test_texts_in_another_encoding_are_named(folder):
    (folder / "a.txt").write_text("zwei Männer", encoding="latin-1")
    (folder / "b/c.txt").write_text("three", encoding="utf-16")
    (folder / "d.txt").write_text("vier ☃", encoding="utf-8-sig")
    source = open_source(folder)
    assert captions_of(source) == {"d": ("vier ☃",)}
    assert problems_of(source)["a"] == "a.txt is not text in UTF-8"
    assert problems_of(source)["b/c"] == "c.txt is not text in UTF-8"
