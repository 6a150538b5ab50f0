"""Batches follow from (seed, step) alone, whoever asks, and every group has its turn."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import count, pairwise

import pytest
import torch

from evenreel.errors import DataError, SettingsError
from evenreel.training.data.shard_file import ShardWriter
from evenreel.training.data.shards import Batch, ShardedData
from evenreel.training.data.sources import world_source
from training.making import SIZE, SMALL, built, clips_folder, members


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fifteen groups from five clips in three shards; not to be changed."""
    place = tmp_path_factory.mktemp("shards")
    clips_folder(place / "clips", count=5)
    built(place / "clips", place / "data")
    return place / "data"


@pytest.fixture(scope="module")
def data(folder):
    return ShardedData(folder)


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.frames, other.frames)
        and (one.captions, one.seeds, one.keys) == (other.captions, other.seeds, other.keys)
        and one.maps.keys() == other.maps.keys()
        and all(torch.equal(one.maps[name], other.maps[name]) for name in one.maps)
    )


def test_a_batch(data):
    batch = data.batch(0, 4)
    assert batch.frames.shape == (4, 2, 3, SIZE, SIZE)
    assert 0 <= batch.frames.min() < 0.01
    assert 0.99 < batch.frames.max() <= 1
    assert len(batch.captions) == len(set(batch.seeds)) == len(set(batch.keys)) == 4
    for frames, caption, key in zip(batch.frames, batch.captions, batch.keys, strict=True):
        group = next(data[i] for i in range(len(data)) if data[i].key == key)
        assert torch.equal(frames, group.frames)
        assert caption in group.facts["captions"] + group.facts["variations"]


def test_a_batch_follows_from_seed_and_step_alone(data, folder):
    later = ShardedData(folder)
    for step in (7, 0, 3):
        assert same(data.batch(step, 4, seed=5), later.batch(step, 4, seed=5))
    assert data.batch(0, 4, seed=5).keys != data.batch(0, 4, seed=6).keys
    assert data.batch(0, 4, seed=5).seeds != data.batch(0, 4, seed=6).seeds


@pytest.mark.parametrize("size", [1, 4, 15, 40])
def test_every_group_has_its_turn_once_an_epoch(data, size):
    keys = [key for step in range(60) for key in data.batch(step, size).keys][: 15 * 4]
    everyone = sorted(data[i].key for i in range(15))
    epochs = [keys[at : at + 15] for at in range(0, len(keys), 15)]
    assert all(sorted(epoch) == everyone for epoch in epochs)
    assert all(a != b for a, b in pairwise(epochs))


def test_groups_are_shuffled_across_shards(data):
    clips = [key[:7] for step in range(3) for key in data.batch(step, 5).keys]
    assert len(set(clips[:5])) > 2


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batch_of_one(data, processes):
    for step in range(8):
        whole = data.batch(step, 6, seed=1)
        parts = [
            data.batch(step, 6 // processes, seed=1, process=rank, processes=processes)
            for rank in range(processes)
        ]
        assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
        for name in ("captions", "seeds", "keys"):
            assert sum((getattr(part, name) for part in parts), ()) == getattr(whole, name)


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (3, 5)])
def test_reading_ahead_changes_nothing(data, threads, ahead):
    steps = (7, 2, 3, 9, 4, 11)
    found = list(data.batches(steps, 4, seed=3, threads=threads, ahead=ahead))
    assert tuple(step for step, _ in found) == steps
    assert all(same(batch, data.batch(step, 4, seed=3)) for step, batch in found)


def test_reading_ahead_goes_no_further_than_asked(data):
    asked = []
    coming = data.batches((asked.append(step) or step for step in count()), 4, ahead=3)
    assert [next(coming)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert max(asked) <= 5 + 3
    coming.close()


def test_captions_are_all_drawn_and_variations_can_be_left_out(data):
    every = Counter(caption for step in range(60) for caption in data.batch(step, 5).captions)
    given = {text for i in range(15) for text in data[i].facts["captions"]}
    assert given < set(every)
    plain = {caption for step in range(60) for caption in data.batch(step, 5, variations=False).captions}
    assert plain == given
    assert data.batch(3, 5, variations=False).seeds == data.batch(3, 5).seeds


def test_maps_are_stacked(tmp_path):
    built(world_source(2), tmp_path / "data", replace(SMALL, control=("depth",), flow=True, frames=3))
    data = ShardedData(tmp_path / "data", maps=("flow", "depth"))
    batch = data.batch(0, 4)
    assert batch.frames.shape == (4, 3, 3, SIZE, SIZE)
    assert batch.maps["flow"].shape == (4, 2, 2, SIZE, SIZE)
    assert batch.maps["depth"].shape == (4, 3, 1, SIZE, SIZE)
    assert ShardedData(tmp_path / "data").batch(0, 4).maps == {}


def test_places_outside(data):
    assert torch.equal(data[-1].frames, data[14].frames)
    for number in (15, -16):
        with pytest.raises(IndexError):
            data[number]
    for details in ({"step": -1}, {"size": 0}, {"process": 2, "processes": 2}, {"process": -1}):
        with pytest.raises(SettingsError):
            data.batch(**{"step": 0, "size": 1, **details})


def rewritten(path, change) -> None:
    """A shard with the members that `change` makes of its own, its size and hash in the manifest put right."""
    whole = members(path)
    samples: dict[str, dict[str, bytes]] = {}
    for name, content in whole.items():
        key, _, suffix = name.partition(".")
        samples.setdefault(key, {})[suffix] = content
    change(samples)
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for key, parts in samples.items():
            writer.write(key, parts)
        writer.finish()
    manifest = path.with_name("manifest.json")
    values = json.loads(manifest.read_text())
    for shard in values["shards"]:
        if shard["file"] == path.name:
            shard["bytes"] = path.stat().st_size
            shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(values))


class TestDamage:
    @pytest.fixture
    def shard(self, tmp_path):
        clips_folder(tmp_path / "clips", count=1)
        built(tmp_path / "clips", tmp_path / "data")
        return tmp_path / "data" / "shard-00000.tar"

    @pytest.mark.parametrize(
        ("suffix", "content", "words"),
        [
            ("0.png", b"\x80\x04evil pickle", r"c000000-g00001\.0\.png is not a picture"),
            ("1.png", b"", "is not a picture"),
            ("1.png", "wrong size", "is 16 x 16 RGB and not 32 x 32 RGB"),
            ("json", b"{", "damaged or has no captions"),
            ("json", b"[" * 100_000, "damaged or has no captions"),
            ("json", b'{"clip": "x", "captions": [], "variations": []}', "damaged or has no captions"),
            ("json", b'{"clip": "x", "captions": [" "], "variations": []}', "damaged or has no captions"),
            ("json", b'{"clip": "x", "captions": "text", "variations": []}', "damaged or has no captions"),
        ],
    )
    def test_damaged_members_are_named(self, shard, suffix, content, words):
        if content == "wrong size":
            from evenreel.training.data.pictures import encoded
            from training.making import pictures

            content = encoded(pictures(1, width=16, height=16)[0])
        rewritten(shard, lambda samples: samples["c000000-g00001"].update({suffix: content}))
        data = ShardedData(shard.parent)
        assert data[0].key == "c000000-g00000"
        with pytest.raises(DataError, match=words) as caught:
            data[1]
        assert "shard-00000.tar" in str(caught.value)

    @pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
    def test_one_flipped_bit_is_noticed_before_it_is_learnt_from(self, shard, place):
        content = bytearray(shard.read_bytes())
        content[round(place * len(content))] ^= 1
        shard.write_bytes(content)
        with pytest.raises(DataError, match=r"shard-00000\.tar"):
            ShardedData(shard.parent).batch(0, 2)

    def test_pickles_are_refused_when_it_is_opened(self, shard):
        rewritten(shard, lambda samples: samples["c000000-g00001"].update({"pyd": b"\x80\x04."}))
        with pytest.raises(DataError, match=r"c000000-g00001\.pyd.*not part of a sample"):
            ShardedData(shard.parent)

    def test_a_shard_of_another_length(self, shard):
        rewritten(shard, lambda samples: samples.pop("c000000-g00001"))
        with pytest.raises(DataError, match="is not the file that was built"):
            ShardedData(shard.parent)
        shard.unlink()
        with pytest.raises(DataError, match="cannot be read"):
            ShardedData(shard.parent)

    def test_an_unfinished_one(self, shard):
        manifest = shard.with_name("manifest.json")
        values = json.loads(manifest.read_text()) | {"shard_count": 2}
        manifest.write_text(json.dumps(values))
        with pytest.raises(DataError, match="1 of 2 shards"):
            ShardedData(shard.parent)

    def test_maps_that_are_not_there(self, shard):
        with pytest.raises(DataError, match="holds no canny maps"):
            ShardedData(shard.parent, maps=("canny",))

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"settings": {}},
            {"shards": [{"file": "../../etc/passwd"}]},
            {"shards": 7},
            {"source": None},
            {"shard_count": None},
        ],
    )
    def test_manifests_that_are_wrong(self, shard, change):
        manifest = shard.with_name("manifest.json")
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
        with pytest.raises(DataError, match=r"manifest\.json is"):
            ShardedData(shard.parent)

    @pytest.mark.parametrize(
        "change",
        [
            {"file": "../x.tar"},
            {"file": "/etc/passwd"},
            {"bytes": -1},
            {"sha256": "x"},
            {"extra": 1},
            {"samples": "3"},
        ],
    )
    def test_shards_that_are_described_wrongly(self, shard, change):
        manifest = shard.with_name("manifest.json")
        values = json.loads(manifest.read_text())
        values["shards"][0] |= change
        manifest.write_text(json.dumps(values))
        with pytest.raises(DataError, match=r"manifest\.json is damaged"):
            ShardedData(shard.parent)

    @pytest.mark.parametrize(
        "change",
        [
            {"size": [32]},
            {"size": [32, 0]},
            {"size": 32},
            {"size": ["32", "32"]},
            {"frames": True},
            {"control": [["x"]]},
            {"maps": "flow"},
            {"image_format": "pickle"},
            {"extra": 1},
        ],
    )
    def test_settings_that_are_wrong(self, shard, change):
        manifest = shard.with_name("manifest.json")
        values = json.loads(manifest.read_text())
        values["settings"] |= change
        manifest.write_text(json.dumps(values))
        with pytest.raises(DataError, match=r"manifest\.json is damaged"):
            ShardedData(shard.parent)

    def test_no_data_set_at_all(self, tmp_path):
        for text in (None, "x", "[]", "[" * 100_000):
            if text is not None:
                (tmp_path / "manifest.json").write_text(text)
            with pytest.raises(DataError):
                ShardedData(tmp_path)
