"""Pairs from folders and files."""

import json
from pathlib import Path

import pytest

from evenreel.errors import ClipError, SettingsError
from evenreel.workflows.evaluation.pairs import Pair, in_file, in_folders, is_collection


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def matched(folder, sources, edits, **common):
    pair = Pair(source=touch(folder / "s", *sources), edit=touch(folder / "e", *edits), **common)
    return in_folders(pair)


class TestFolders:
    def test_by_name(self, tmp_path):
        found, alone = matched(
            tmp_path,
            ["a.mp4", "b.mov", "c/0.png", "d.mp4", ".hidden.mp4", "notes.txt"],
            ["a.mp4", "a.json", "b-edited.mp4", "c.webm", "e/1.jpg"],
            prompt="x",
        )
        assert [(pair.source.name, pair.edit.name) for pair in found] == [
            ("a.mp4", "a.mp4"),
            ("b.mov", "b-edited.mp4"),
            ("c", "c.webm"),
        ]
        assert all(pair.prompt == "x" for pair in found)
        assert alone == [
            f"d.mp4 has no edit of its name in {tmp_path / 'e'}",
            f"e has no source of its name in {tmp_path / 's'}",
        ]

    def test_masks_and_flow_of_the_same_names(self, tmp_path):
        masks, flow = touch(tmp_path / "m", "a.png", "b/0.png"), touch(tmp_path / "f", "a/1.flo", "b/1.flo")
        found, _ = matched(tmp_path, ["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"], mask=masks, flow=flow)
        assert [(pair.mask, pair.flow) for pair in found] == [
            (masks / "a.png", flow / "a"),
            (masks / "b", flow / "b"),
        ]

    def test_a_mask_that_is_missing_is_no_pair_without_a_mask(self, tmp_path):
        masks = touch(tmp_path / "m", "a.png")
        with pytest.raises(ClipError, match="holds nothing of the name b"):
            matched(tmp_path, ["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"], mask=masks)

    def test_two_of_a_name(self, tmp_path):
        with pytest.raises(ClipError, match=r"a.mov and a.mp4; keep one clip of each name"):
            matched(tmp_path, ["a.mp4", "a.mov"], ["a.mp4"])
        with pytest.raises(ClipError, match=r"holds a.mp4 and a-edited.mp4 for a.mp4"):
            matched(tmp_path / "other", ["a.mp4"], ["a.mp4", "a-edited.mp4"])

    def test_nothing_in_common(self, tmp_path):
        with pytest.raises(ClipError, match="name edits as their sources"):
            matched(tmp_path, ["a.mp4"], ["b.mp4"])

    def test_what_a_collection_is(self, tmp_path):
        assert is_collection(touch(tmp_path / "videos", "a.mp4"))
        assert is_collection(touch(tmp_path / "folders", "a/0.png"))
        assert not is_collection(touch(tmp_path / "images", "0.png", "1.png"))
        assert not is_collection(touch(tmp_path / "empty" / "nothing").parent)
        assert not is_collection(tmp_path / "nowhere")
        assert not is_collection(touch(tmp_path, "clip.mp4") / "clip.mp4")


class TestFiles:
    @pytest.fixture
    def write(self, tmp_path):
        def write(name, text):
            (tmp_path / name).write_text(text, encoding="utf-8")
            return tmp_path / name

        return write

    def test_csv_and_json_say_the_same(self, write, tmp_path):
        table = 'source,edit,prompt,mask,frames\na.mp4,b.mp4,"a star, red",m,2:5\nc.mp4,/d.mp4,,,\n'
        rows = [
            {"source": "a.mp4", "edit": "b.mp4", "prompt": "a star, red", "mask": "m", "frames": "2:5"},
            {"source": "c.mp4", "edit": "/d.mp4", "prompt": None},
        ]
        expected = [
            Pair(
                source=tmp_path / "a.mp4",
                edit=tmp_path / "b.mp4",
                prompt="a star, red",
                mask=tmp_path / "m",
                frames=(2, 5),
            ),
            Pair(source=tmp_path / "c.mp4", edit=Path("/d.mp4")),
        ]
        assert in_file(write("pairs.csv", table)) == expected
        assert in_file(write("excel.csv", "\ufeff" + table)) == expected
        assert in_file(write("pairs.json", json.dumps(rows))) == expected

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.json", "{", "cannot be read"),
            ("a.json", "[]", "lists no pairs"),
            ("a.json", '{"source": "a"}', "lists no pairs"),
            ("a.json", "[3]", "lists no pairs"),
            ("a.json", '[{"source": "a", "edit": 3}]', "pair 1: edit must be text, got 3"),
            ("a.json", '[{"source": "a", "edit": ["b"]}]', "pair 1: edit must be text"),
            ("a.csv", "", "lists no pairs"),
            ("a.csv", "source,edit\na.mp4\n", "pair 1 has no edit"),
            ("a.csv", "source,edit\na,b\nc,\n", "pair 2 has no edit"),
            ("a.csv", "source,edit,sound\na,b,c\n", "unknown 'sound'; known are edit, flow, frames"),
            ("a.csv", "source,edit\na,b,c\n", "pair 1"),
            ("a.csv", "source,edit,frames\na,b,3\n", "frames of pair 1 must be START:END"),
        ],
    )
    def test_others(self, write, name, text, words):
        with pytest.raises(SettingsError, match=words):
            in_file(write(name, text))

    def test_no_file(self, tmp_path):
        with pytest.raises(SettingsError, match=r"No such file"):
            in_file(tmp_path / "nowhere.csv")


def test_a_quoted_prompt_may_go_over_lines(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        'source,edit,prompt\na.mp4,b.mp4,"a star\n\non snow"\nc,d,e\n', "utf-8"
    )
    assert [pair.prompt for pair in in_file(tmp_path / "pairs.csv")] == ["a star\n\non snow", "e"]
