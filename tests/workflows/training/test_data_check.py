"""The check finds what is damaged, and says what else is worth a look."""

import json

import numpy as np
import pytest

from evenreel.errors import DataError
from evenreel.workflows.training.data_check import check
from training.making import SIZE, built, clips_folder, image_clip, pictures


@pytest.fixture
def folder(tmp_path):
    """Twelve groups from four clips in two shards."""
    clips_folder(tmp_path / "clips")
    built(tmp_path / "clips", tmp_path / "data")
    return tmp_path / "data"


def damage(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_good_one(folder):
    steps = []
    report = check(folder, progress=lambda stage, done, total: steps.append((stage, done, total)))
    found = report.found
    assert found.problems == []
    assert (found.samples, found.frames, report.remarks) == (12, 24, 0)
    assert found.captions >= 4 * 2
    assert (steps[0], steps[-1]) == (("check", 0, 12), ("check", 12, 12))


def test_two_workers_find_the_same(folder):
    damage(folder / "shard-00001.tar", 5000)
    one, two = check(folder).found, check(folder, workers=2).found
    assert one.problems == two.problems
    assert one.problems
    assert sorted(one.shows) == sorted(two.shows)


@pytest.mark.parametrize("place", [0, 700, 5000, -20_000, -1])
def test_one_flipped_bit(folder, place):
    damage(folder / "shard-00001.tar", place)
    problems = check(folder).found.problems
    assert any("shard-00001.tar is not what was built (its hash differs)" in text for text in problems)
    assert not any("shard-00000" in text for text in problems)


def test_a_damaged_picture_is_named_and_the_others_count(folder):
    path = folder / "shard-00001.tar"
    place = path.read_bytes().index(b"IDAT") + 100
    damage(path, place)
    found = check(folder).found
    assert found.samples == 11
    assert any("c000002-g00000.0.png is not a picture" in text for text in found.problems)


def test_shards_that_are_gone_cut_or_strange(folder):
    (folder / "shard-00000.tar").unlink()
    path = folder / "shard-00001.tar"
    path.write_bytes(path.read_bytes()[:20_000])
    (folder / "shard-00007.tar").write_bytes(b"")
    problems = "\n".join(check(folder).found.problems)
    assert "shard-00000.tar is not there" in problems
    assert "shard-00001.tar is cut short" in problems
    assert "holds 'shard-00007.tar', which the manifest does not know" in problems


def test_an_unfinished_one(folder):
    values = json.loads((folder / "manifest.json").read_text())
    values["shards"].pop()
    (folder / "manifest.json").write_text(json.dumps(values))
    assert any("is unfinished: 1 of 2 shards" in text for text in check(folder).found.problems)


def test_what_is_worth_a_look(tmp_path):
    frame = pictures(1)
    image_clip(tmp_path / "clips" / "still", np.repeat(frame, 5, axis=0))
    image_clip(tmp_path / "clips" / "black", np.zeros((3, SIZE, SIZE, 3), np.uint8))
    fades = pictures(3)
    fades[2] = (10, 200, 30)
    image_clip(tmp_path / "clips" / "fades", fades)
    for name in ("one", "twin"):
        image_clip(tmp_path / "clips" / name, pictures(3, seed=7))
    table = dict.fromkeys(("still", "black", "fades", "one", "twin"), "x")
    (tmp_path / "clips" / "captions.json").write_text(json.dumps(table))
    built(tmp_path / "clips", tmp_path / "data")
    report = check(tmp_path / "data")
    found = report.found
    assert found.problems == []
    # still: three groups of one picture; black: one still group of two blank frames
    assert (found.blank, found.still, found.repeated) == (3, 4, 3)
    assert report.remarks == 10


def test_no_data_set(tmp_path):
    with pytest.raises(DataError, match="give a folder made by"):
        check(tmp_path)
