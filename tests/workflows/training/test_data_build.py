"""Building data sets: frames come back bit for bit, and the bytes depend on nothing but source and settings."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from webdataset import autodecode, tariterators

from evenreel.errors import DataError, OutputError, SettingsError
from evenreel.files import maker
from evenreel.ops.edges import canny
from evenreel.settings import read
from evenreel.training.data.manifest import read_manifest
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.shards import ShardedData
from evenreel.training.data.sources import open_source, world_source
from evenreel.video import load
from evenreel.world import caption, captions, random_scene, render
from training.making import SIZE, SMALL, built, clips_folder, contents, image_clip, members, pictures
from video.damage import box_at, flipped
from video.making import moving, write_clip


def test_frames_come_back_bit_for_bit(tmp_path):
    clips = clips_folder(tmp_path / "clips", count=3, frames=9)
    manifest = built(tmp_path / "clips", tmp_path / "data")
    assert (manifest.samples, len(manifest.shards)) == (9, 2)
    data = ShardedData(tmp_path / "data")
    seen = set()
    for number in range(len(data)):
        group = data[number]
        wanted = clips[group.facts["clip"]][group.facts["frames"]]
        assert np.array_equal((group.frames * 255).round().byte().permute(0, 2, 3, 1).numpy(), wanted)
        assert torch.equal(group.frames, torch.from_numpy(wanted).permute(0, 3, 1, 2).float() / 255)
        seen.add((group.facts["clip"], *group.facts["frames"]))
    assert seen == {(clip, at, at + 2) for clip in clips for at in (0, 3, 6)}


def test_webdataset_decodes_the_same_frames(tmp_path):
    clips = clips_folder(tmp_path / "clips", count=1)
    built(tmp_path / "clips", tmp_path / "data")
    path = tmp_path / "data" / "shard-00000.tar"
    with path.open("rb") as file:
        files = tariterators.tar_file_expander([{"url": str(path), "stream": file}])
        decode = autodecode.Decoder([autodecode.imagehandler("rgb8")])
        found = [decode(sample) for sample in tariterators.group_by_keys(files)]
    assert len(found) == 3
    for sample in found:
        numbers = sample["json"]["frames"]
        for place, number in enumerate(numbers):
            assert np.array_equal(sample[f"{place}.png"], clips["clip0"][number])
    assert all(name.endswith((".png", ".json")) for name in members(path))


def test_a_video_that_is_stored_without_loss(tmp_path):
    (tmp_path / "clips").mkdir()
    path = write_clip(
        tmp_path / "clips" / "a.mkv", list(pictures(7)), codec="ffv1", pixel_format="bgr0", matrix=None
    )
    (tmp_path / "clips" / "a.txt").write_text("noise")
    built(tmp_path / "clips", tmp_path / "data", replace(SMALL, gap=1, frames=3, per_clip=99))
    data = ShardedData(tmp_path / "data")
    whole = load(path).frames
    assert len(data) == 5
    for number in range(5):
        frames = (data[number].frames * 255).round().byte().permute(0, 2, 3, 1)
        assert torch.equal(frames, whole[number : number + 3])
        assert data[number].facts["times"] == [round(0.04 * (number + i), 6) for i in range(3)]
        assert data[number].facts["fps"] == 25


def test_frames_are_scaled_and_cut_around_their_middle(tmp_path):
    frames = np.zeros((3, 64, 192, 3), np.uint8)
    frames[:, :, 64:128] = (200, 100, 50)
    image_clip(tmp_path / "clips" / "a", frames)
    (tmp_path / "clips" / "a.txt").write_text("a stripe")
    built(tmp_path / "clips", tmp_path / "data")
    shown = (ShardedData(tmp_path / "data")[0].frames * 255).round()
    assert (shown == torch.tensor([200.0, 100.0, 50.0]).view(1, 3, 1, 1)).all()


def test_jpeg_is_near(tmp_path):
    image_clip(tmp_path / "clips" / "a", np.stack(moving(3, 64, 64)))
    (tmp_path / "clips" / "a.txt").write_text("a bar")
    built(tmp_path / "clips", tmp_path / "data", replace(SMALL, size=(64, 64), jpeg=True))
    data = ShardedData(tmp_path / "data")
    error = data[0].frames - torch.from_numpy(np.stack(moving(3, 64, 64))[[0, 2]]).permute(0, 3, 1, 2) / 255
    assert error.abs().mean() < 0.02


def test_every_sample_says_what_it_is(tmp_path):
    clips_folder(tmp_path / "clips", count=1)
    captions_file = tmp_path / "clips" / "captions.json"
    captions_file.write_text(json.dumps({"clip0": ["ein Hund ☃ 雪", "a dog is sitting in the snow"]}))
    built(tmp_path / "clips", tmp_path / "data")
    facts = json.loads(members(tmp_path / "data" / "shard-00000.tar")["c000000-g00001.json"])
    assert facts["captions"] == ["ein Hund ☃ 雪", "a dog is sitting in the snow"]
    assert 2 <= len(facts["variations"]) <= 4
    assert (facts["clip"], facts["frames"], facts["fps"]) == ("clip0", [3, 5], 8)
    assert facts["times"] == [0.375, 0.625]
    assert len(facts["source"]["sha256"]) == 64


def test_msrvtt_cuts_only_recordings_that_are_still_whole(tmp_path):
    for name, seconds in (("video1", 2.0), ("video2", 12.0)):
        write_clip(tmp_path / f"{name}.mp4", moving(round(5 * seconds), 32, 32), rate=5)
    videos = [
        {"video_id": name, "split": "train", "start time": 8.0, "end time": 10.0}
        for name in ("video1", "video2")
    ]
    sentences = [{"video_id": name, "caption": "a bar"} for name in ("video1", "video2")]
    path = tmp_path / "train_val_videodatainfo.json"
    path.write_text(json.dumps({"videos": videos, "sentences": sentences}))
    built(tmp_path, tmp_path / "data", replace(SMALL, per_clip=1000))
    data = ShardedData(tmp_path / "data")
    firsts = {"video1": [], "video2": []}
    for number in range(len(data)):
        firsts[data[number].facts["clip"]].append(data[number].facts["frames"][0])
    assert firsts == {"video1": list(range(8)), "video2": list(range(40, 48))}


def test_the_world_is_exact(tmp_path):
    source = world_source(2, first_seed=11, objects=2, frame_count=9)
    built(source, tmp_path / "data", replace(SMALL, control=("depth",), flow=True, gap=3))
    data = ShardedData(tmp_path / "data", maps=("flow", "depth"))
    assert len(data) == 6
    for number in range(6):
        group = data[number]
        scene = random_scene(group.facts["source"]["seed"], objects=2)
        clip = render(scene, group.facts["frames"], SIZE, ahead=3)
        assert torch.equal((group.frames * 255).round(), (clip.frames * 255).round())
        assert (group.maps["depth"] - clip.depth).abs().max() <= 1 / 65535
        assert group.maps["flow"].shape == (1, 2, SIZE, SIZE)
        assert (group.maps["flow"] - clip.flow[:1]).abs().max() <= 1 / 128 + 1e-4
        assert group.facts["captions"] == captions(scene, 20)
        assert caption(scene) in group.facts["captions"]
        assert not set(group.facts["captions"]) & set(group.facts["variations"])
        assert group.facts["scene"]["background"] == scene.background


def test_edges_are_those_of_the_frames_as_they_are_kept(tmp_path):
    image_clip(tmp_path / "clips" / "a", np.stack(moving(5, 96, 64)))
    (tmp_path / "clips" / "a.txt").write_text("a bar")
    built(tmp_path / "clips", tmp_path / "data", replace(SMALL, control=("canny",)))
    group = ShardedData(tmp_path / "data", maps=("canny",))[0]
    assert group.maps["canny"].shape == (2, 1, SIZE, SIZE)
    assert torch.equal(group.maps["canny"][:, 0], canny(group.frames).float())
    assert 0 < group.maps["canny"].mean() < 0.5


def test_bytes_do_not_depend_on_how_many_work(tmp_path):
    clips_folder(tmp_path / "clips", count=5)
    for workers in (1, 2):
        built(tmp_path / "clips", tmp_path / f"data{workers}", workers=workers)
    assert contents(tmp_path / "data1") == contents(tmp_path / "data2")
    assert len(contents(tmp_path / "data1")) == 4


SCENES = world_source(16)
SCENE_SETTINGS = DataSettings(size=(96, 96), per_clip=6, clips_per_shard=1)
BUILD = """
import sys
from pathlib import Path
from evenreel.settings import read
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.sources import world_source
from evenreel.workflows.training.data_build import build
if __name__ == "__main__":
    settings = DataSettings(size=(96, 96), per_clip=6, clips_per_shard=1)
    build(world_source(16), Path(sys.argv[1]), settings, workers=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """What the build of BUILD comes to when nothing interrupts it."""
    out = tmp_path_factory.mktemp("whole") / "data"
    built(SCENES, out, SCENE_SETTINGS)
    return contents(out)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("workers", "blows"), [(1, (signal.SIGKILL, signal.SIGKILL)), (2, (signal.SIGKILL, signal.SIGINT))]
)
def test_cut_at_any_moment_it_goes_on_to_the_same_bytes(workers, blows, whole, tmp_path, zygote):
    out, rng = tmp_path / "data", random.Random(workers)
    (tmp_path / "run.py").write_text(BUILD)
    kept: dict[str, tuple[int, int]] = {}
    for wanted, blow in zip((1, 5), blows, strict=True):
        notes = tmp_path / f"until {wanted}"
        notes.mkdir()
        child = zygote.begin([out, workers], tmp_path, notes=notes, script=tmp_path / "run.py")
        deadline = time.monotonic() + 120
        while len(list(out.glob("shard-*.tar"))) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        family = [psutil.Process(child), *psutil.Process(child).children(recursive=True)]
        os.kill(child, blow)
        assert zygote.end() != 0
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, "workers must not outlive their parent"
        if blow == signal.SIGINT:
            assert "KeyboardInterrupt" in (notes / "said.txt").read_text()
        manifest = read_manifest(out)
        for shard in manifest.shards:  # what was acknowledged is there, whole, and is not made again
            assert (out / shard.file).read_bytes() == whole[shard.file]
            mark = (out / shard.file).stat().st_ino, (out / shard.file).stat().st_mtime_ns
            assert kept.setdefault(shard.file, mark) == mark
    assert kept
    built(SCENES, out, SCENE_SETTINGS)
    assert contents(out) == whole
    assert all((out / name).stat().st_ino == mark[0] for name, mark in kept.items())


def test_a_finished_build_is_left_as_it_is_and_a_lost_shard_is_made_again(tmp_path):
    clips_folder(tmp_path / "clips")
    built(tmp_path / "clips", tmp_path / "data")
    before = contents(tmp_path / "data")
    times = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("shard-*")}
    built(tmp_path / "clips", tmp_path / "data")
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("shard-*")} == times
    (tmp_path / "data" / "shard-00001.tar").unlink()
    (tmp_path / "data" / "shard-00000.tar").write_bytes(b"short")
    machine = maker().rpartition("-")[2]
    (tmp_path / "data" / f".evenreel-4194305-{machine}-00000000.tar").write_bytes(b"left by a kill")
    built(tmp_path / "clips", tmp_path / "data")
    assert contents(tmp_path / "data") == before


def test_other_settings_or_clips_are_refused(tmp_path):
    clips_folder(tmp_path / "clips")
    built(tmp_path / "clips", tmp_path / "data")
    before = contents(tmp_path / "data")
    with pytest.raises(SettingsError, match="gap was 2 and is now 3"):
        built(tmp_path / "clips", tmp_path / "data", replace(SMALL, gap=3))
    with pytest.raises(SettingsError, match="was begun otherwise"):
        built(world_source(2), tmp_path / "data")
    table = json.loads((tmp_path / "clips" / "captions.json").read_text()) | {"clip0": "other"}
    (tmp_path / "clips" / "captions.json").write_text(json.dumps(table))
    with pytest.raises(SettingsError, match="its clips or captions have changed"):
        built(tmp_path / "clips", tmp_path / "data")
    image_clip(tmp_path / "clips" / "new", pictures(9))
    with pytest.raises(SettingsError, match="clips was 4 and is now 5"):
        built(tmp_path / "clips", tmp_path / "data")
    assert contents(tmp_path / "data") == before


@pytest.fixture
def faulty(tmp_path):
    """One good clip among bad ones."""
    folder = tmp_path / "clips"
    clips_folder(folder, count=1)
    write_clip(folder / "cut.mp4", moving(40))
    (folder / "cut.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:-700])
    (folder / "text.mp4").write_text("no video at all")
    write_clip(folder / "short.mp4", moving(2))
    image_clip(folder / "damaged", pictures(6))
    (folder / "damaged" / "004.png").write_bytes((folder / "damaged" / "004.png").read_bytes()[:900])
    table = dict.fromkeys(("clip0", "cut.mp4", "text.mp4", "short.mp4", "damaged", "gone.mp4"), "x")
    (folder / "captions.json").write_text(json.dumps(table | {"clip0": ["y", ""]}))
    return folder


def test_clips_that_cannot_be_read_are_listed_and_left_out(faulty, tmp_path):
    manifest = built(faulty, tmp_path / "data")
    assert manifest.samples == 3
    reasons = dict(manifest.skipped)
    assert reasons.keys() == {"cut.mp4", "text.mp4", "short.mp4", "damaged", "gone.mp4"}
    assert "2 frames and a group spans 3" in reasons["short.mp4"]
    assert "004.png" in reasons["damaged"]
    assert not any(str(tmp_path) in reason for name, reason in reasons.items() if name != "damaged")
    assert sum(shard.dropped_captions for shard in manifest.shards) == 1
    written = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert (written["complete"], written["samples"], written["skipped_clips"]) == (True, 3, 5)
    assert len(ShardedData(tmp_path / "data")) == 3


def test_strict_stops_at_the_first(faulty, tmp_path):
    with pytest.raises(DataError, match=r"gone\.mp4 cannot be used: there is no such file"):
        built(faulty, tmp_path / "data", strict=True)
    table = json.loads((faulty / "captions.json").read_text())
    del table["gone.mp4"]
    (faulty / "captions.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match="cannot be used"):
        built(faulty, tmp_path / "data2", strict=True)
    built(faulty, tmp_path / "data3")
    with pytest.raises(DataError, match="cannot be used"):
        built(faulty, tmp_path / "data3", strict=True)


def test_nothing_that_can_be_used(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_text("no video")
    (tmp_path / "clips" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"none of the 1 clips can be used; the first is a\.mp4: "):
        built(tmp_path / "clips", tmp_path / "data")


def test_a_clip_cut_short_can_be_taken_as_far_as_it_goes(tmp_path):
    (tmp_path / "clips").mkdir()
    path = write_clip(tmp_path / "clips" / "a.mkv", moving(60), options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "clips" / "a.txt").write_text("a bar")
    manifest = built(tmp_path / "clips", tmp_path / "data", replace(SMALL, allow_truncated=True))
    assert (manifest.samples, manifest.skipped) == (3, [])


def test_a_damaged_clip_can_be_taken_and_its_samples_say_so(tmp_path):
    (tmp_path / "clips").mkdir()
    path = write_clip(tmp_path / "clips" / "a.mp4", moving(24), options={"g": "5"})
    content = path.read_bytes()
    begin = box_at(content, b"mdat")
    length = int.from_bytes(content[begin - 8 : begin - 4], "big") - 8
    path.write_bytes(flipped(content, [begin + length * i // 10 for i in range(3, 8)]))
    (tmp_path / "clips" / "a.txt").write_text("a bar")
    with pytest.raises(DataError, match=r"damaged at frame .* allow_damaged"):
        built(tmp_path / "clips", tmp_path / "none", replace(SMALL, allow_truncated=True))
    manifest = built(tmp_path / "clips", tmp_path / "data", replace(SMALL, allow_damaged=True))
    assert (manifest.samples, manifest.skipped) == (3, [])
    data = ShardedData(tmp_path / "data")
    assert all(data[number].facts["source"]["damaged"] for number in range(3))
    values = manifest.settings.to_json()
    del values["allow_damaged"]  # as manifests of before
    assert DataSettings.from_json(values) == replace(manifest.settings, allow_damaged=False)


def test_outputs_that_cannot_be(tmp_path):
    clips_folder(tmp_path / "clips")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        built(tmp_path / "clips", tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("x")
    with pytest.raises(OutputError, match=r"holds other files \(thesis\.doc\)"):
        built(tmp_path / "clips", tmp_path / "other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        built(tmp_path / "clips", tmp_path / "damaged")


def test_two_builds_of_one_folder(tmp_path):
    clips_folder(tmp_path / "clips")
    source = open_source(tmp_path / "clips")

    def progress(stage: str, done: int, total: int | None) -> None:
        with pytest.raises(OutputError, match="is being built by another process"):
            built(source, tmp_path / "data")

    built(source, tmp_path / "data", progress=progress)


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_full_disk_is_one_sentence_and_what_is_finished_stays(tmp_path):
    clips_folder(tmp_path / "clips", count=3)
    code = (
        "import resource, sys; from pathlib import Path; from training.making import *\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "built(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "clips", tmp_path / "data"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "OutputError" in done.stderr.splitlines()[-1]
    assert sorted(contents(tmp_path / "data")) == ["manifest.json"]
    assert built(tmp_path / "clips", tmp_path / "data").complete


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"control": ("depth",)}, "depth is known exactly for rendered scenes only"),
        ({"flow": True}, "flow is known exactly for rendered scenes only"),
    ],
)
def test_maps_that_need_a_model(details, words, tmp_path):
    clips_folder(tmp_path / "clips", count=1)
    with pytest.raises(SettingsError, match=words):
        built(tmp_path / "clips", tmp_path / "data", replace(SMALL, **details))


@pytest.mark.parametrize(
    "details",
    [
        {"size": (4, 64)},
        {"frames": 1},
        {"gap": 0},
        {"per_clip": 0},
        {"variations": -1},
        {"jpeg": "tiff"},
        {"control": ("smoke",)},
        {"control": ("canny", "canny")},
        {"captioner": "  "},
        {"clips_per_shard": 0},
    ],
)
def test_settings_out_of_range(details):
    with pytest.raises(SettingsError):
        read(DataSettings, {**SMALL.to_json(), **details}, "a data set")


def test_a_program_words_the_captions(tmp_path):
    clips_folder(tmp_path / "clips", count=3)
    code = "import sys, json\nfor line in sys.stdin: print(json.dumps(['WORDED ' + json.loads(line)]))"
    command = f"'{sys.executable}' -c '{code}'".replace("'WORDED '", '"WORDED "')
    built(tmp_path / "clips", tmp_path / "data", replace(SMALL, captioner=command))
    facts = ShardedData(tmp_path / "data")[0].facts
    assert facts["variations"] == [f"WORDED {text}" for text in facts["captions"]]
    with pytest.raises(SettingsError, match="their own grammar"):
        built(world_source(1), tmp_path / "world", replace(SMALL, captioner=command))


def test_pictures_of_any_mode_are_rgb(tmp_path):
    folder = tmp_path / "clips" / "a"
    folder.mkdir(parents=True)
    for index in range(3):
        Image.new("L", (SIZE, SIZE), 100 + index).save(folder / f"{index}.png")
    (tmp_path / "clips" / "a.txt").write_text("grey")
    built(tmp_path / "clips", tmp_path / "data")
    frames = (ShardedData(tmp_path / "data")[0].frames * 255).round()
    assert frames[0].unique().tolist() == [100]
    assert frames[1].unique().tolist() == [102]
