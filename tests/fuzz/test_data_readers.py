"""Mutated data to train on, captions, and lists of pairs: each is read, or is one sentence."""

import json
import shutil

import pytest

from evenreel.errors import DataError, EvenreelError
from evenreel.training.data.shards import ShardedData
from evenreel.training.data.sources import open_source
from evenreel.workflows.evaluation.pairs import in_file
from evenreel.workflows.training.data_check import check
from fuzz.mutation import with_bytes, with_bytes_anywhere, with_json, with_text
from fuzz.trying import Reader, hunt
from training.making import built, clips_folder
from video.making import moving, write_clip

KINDS = (
    "shard",
    "manifest",
    "captions json",
    "captions csv",
    "captions txt",
    "pairs json",
    "pairs csv",
    "msr-vtt",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips, a data set made of them, and lists."""
    folder = tmp_path_factory.mktemp("fuzz")
    clips_folder(folder / "clips", count=2, frames=5)
    built(folder / "clips", folder / "data")
    for name in ("txt", "csv", "vtt"):
        shutil.copytree(folder / "clips", folder / name, ignore=shutil.ignore_patterns("captions.json"))
    (folder / "txt" / "clip0.txt").write_text("a man\na dog\n")
    (folder / "csv" / "captions.csv").write_text('file,caption\nclip0,a man\nclip1,"a dog, a cat"\n')
    write_clip(folder / "vtt" / "video0.mp4", moving(5))
    (folder / "vtt" / "videodatainfo.json").write_text(
        json.dumps(
            {
                "videos": [{"video_id": "video0", "split": "train", "start time": 0.5, "end time": 1.5}],
                "sentences": [{"video_id": "video0", "caption": "a man"}],
            }
        )
    )
    pairs = [{"source": "a.mp4", "edit": "b.mp4", "prompt": "x", "frames": "0:3"}]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "pairs.csv").write_text("source,edit,prompt\na.mp4,b.mp4,a star\n")
    return folder


def whole(path):
    """A data set is checked, opened and read."""
    assert check(path.parent).found.samples >= 0
    data = ShardedData(path.parent)
    return [(data[n].key, data[n].facts, data[n].frames.tolist()) for n in range(len(data))]


def captions(path):
    _ = open_source(path.parent).description


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_data_are_read_or_one_sentence(kind, folder, seconds, tmp_path):
    text, table = (with_json, with_json, with_bytes), (with_text, with_bytes)
    path, read, mutations, errors = {
        "shard": (folder / "data" / "shard-00000.tar", whole, (with_bytes, with_bytes_anywhere), DataError),
        "manifest": (folder / "data" / "manifest.json", whole, text, DataError),
        "captions json": (folder / "clips" / "captions.json", captions, text, DataError),
        "captions csv": (folder / "csv" / "captions.csv", captions, table, DataError),
        "captions txt": (folder / "txt" / "clip0.txt", captions, table, DataError),
        "pairs json": (folder / "pairs.json", in_file, text, EvenreelError),
        "pairs csv": (folder / "pairs.csv", in_file, table, EvenreelError),
        "msr-vtt": (folder / "vtt" / "videodatainfo.json", captions, text, DataError),
    }[kind]
    same = (lambda found: found) if kind == "shard" else None
    hunt(kind, Reader(path, read, mutations, errors, same), seconds, tmp_path)
