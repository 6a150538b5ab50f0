"""Captions that cannot be read whole are counted and named with their clip, by builds, checks and trainings."""

import json

import pytest

from evenreel.backbones import load_backbone
from evenreel.errors import DataError
from evenreel.training.data.caption_length import MOST_TOKENS, tokens_in, too_long
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData
from evenreel.workflows.training.data_check import check
from training.making import built, image_clip, pictures

LONG = "a red circle over grass and a blue star over snow " * 12
UNBROKEN = "雪の上の青い星" * 40
"""Without a space, and nearly three tokens a letter."""


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "clips"
    captions = {"plain": "a red circle", "long": ["short", LONG], "unbroken": UNBROKEN}
    for name in captions:
        image_clip(source / name, pictures(9))
    (source / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    return source


def test_tokens_are_counted():
    fits, cut = "a " * MOST_TOKENS, "a " * (MOST_TOKENS + 1)
    assert (tokens_in(fits), tokens_in(cut)) == (MOST_TOKENS, MOST_TOKENS + 1)
    assert [one.clip for one in too_long([("fits", fits), ("cut", cut), ("unbroken", UNBROKEN)])] == [
        "cut",
        "unbroken",
    ]
    assert not too_long([("many letters of few words", "supercalifragilistic " * 5)])


def test_a_build_says_so_and_strict_stops(folder, tmp_path, caplog):
    with pytest.raises(DataError, match=r"long cannot be used: 'a red circle.*tokens, and 75 are read"):
        built(folder, tmp_path / "strict", strict=True)
    manifest = built(folder, tmp_path / "data")
    assert not manifest.skipped
    assert "2 captions of 2 clips are too long" in caplog.text
    assert "the first is long: 'a red circle over grass" in caplog.text


def test_a_check_counts_them(folder, tmp_path):
    built(folder, tmp_path / "data")
    report = check(tmp_path / "data")
    assert {one.clip for one in report.found.cut} == {"long", "unbroken"}
    assert report.remarks >= 2


def test_captions_of_shards_come_once_for_each_clip(folder, tmp_path):
    built(folder, tmp_path / "data")
    found = list(ShardedData(tmp_path / "data").captions())
    assert len(found) == len(set(found))
    assert {("plain", "a red circle"), ("unbroken", UNBROKEN)} < set(found)


def test_a_training_reads_as_much_as_fits(tiny_folder):
    """With the tiny model every letter is a token."""
    encoded = Encoded(load_backbone(str(tiny_folder), device="cpu"), None)
    for text, read in (
        ("a short one", "a short one"),
        ("word " * 40, " ".join(["word"] * 18)),  # 18 x 4 letters, and 19 would be 76
        ("x" * 200, "x" * 75),
        ("x" * 200 + " y", "x" * 75),
        ("雪" * 100, "雪" * 25),
    ):
        assert encoded.fitting(text) == read
        rows = encoded.text([text])
        assert rows.shape[1] == encoded.text([""]).shape[1]
        assert not encoded.fits(text) or text == read
