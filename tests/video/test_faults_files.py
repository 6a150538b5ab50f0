"""Faults 1 to 9: files that are no videos, damage, and clips with little in them."""

import os

import av
import numpy as np
import pytest
import torch
from PIL import Image

from evenreel.video import VideoWriter, WriteSettings, load
from video.damage import flipped, frames_or_refusal, refused, sound_only, top_boxes
from video.making import corners, moving, smooth, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)


@pytest.mark.parametrize(
    "name", ["missing.mp4", "no/such/folder.mp4", "a.mp4/inside.mp4", "", "a\0b.mp4", "x" * 300]
)
def test_01_missing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert refused(name)


def test_01_directory_without_images(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not an image")
    assert "holds no images" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_01_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert "device or pipe" in refused(tmp_path / "a.mp4")


def test_01_link_loop(tmp_path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    assert "cannot be read" in refused(tmp_path / "a.mp4")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="permissions do not bind this user")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_01_unreadable(tmp_path, kind):
    path = tmp_path / "a"
    path.mkdir() if kind == "folder" else path.write_bytes(b"x")
    path.chmod(0)
    try:
        assert "permission denied" in refused(path).lower()
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.gif", "a"])
def test_02_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert "is empty" in refused(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary, no video today.\n" * 200,
        np.random.default_rng(0).bytes(20_000),
        bytes(20_000),
        b"<!doctype html><title>Sign in</title>" + b" " * 9000,
        b"PK\x03\x04" + bytes(500),
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        b"\xff\xd8\xff\xe0" + bytes(500),
        b"\0",
    ],
    ids=["text", "random", "zeros", "web page", "zip", "png head", "jpeg head", "one byte"],
)
def test_03_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    assert "a.mp4 is not a" in refused(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n<!DOCTYPE html><title>Sign in</title>", "but a web page; download the clip itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "a Git LFS pointer; fetch"),
    ],
)
def test_03_what_lies_in_the_place_of_a_clip(tmp_path, content, said):
    (tmp_path / "a.mp4").write_bytes(content)
    assert said in refused(tmp_path / "a.mp4")


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_04_mp4_without_moov(tmp_path, left):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    data = path.read_bytes()
    start = next(start for name, start, _ in top_boxes(data) if name == b"moov")
    path.write_bytes(data[: int(start * left)])
    assert "was cut off before its index (moov) was written" in refused(path, allow_truncated=True)


def test_03_a_broken_picture_of_a_phone_is_no_recording(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x10ftypheic\0\0\0\0" + b"\0\0\0\x10meta" + bytes(8))
    assert "moov" not in refused(tmp_path / "a.heic")


def test_03_an_encrypted_clip_is_named(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(3))
    path.write_bytes(path.read_bytes().replace(b"avc1\0", b"encv\0"))
    assert "is encrypted (DRM)" in refused(path)


@pytest.mark.parametrize("audio", [None, "aac"])
@pytest.mark.parametrize("left", [0.4, 0.8])
@pytest.mark.parametrize("name", ["a.mkv", "faststart.mp4", "a.avi"])
def test_05_cut_short(tmp_path, name, audio, left):
    muxing = {"movflags": "+faststart"} if name.endswith("mp4") else None
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_clip(tmp_path / name, smooth(20), codec=codec, audio=audio, muxing=muxing)
    whole = load(path)
    data = path.read_bytes()
    # in so small an AVI, the header and the index take up more than the pictures
    begin, end = (data.index(b"movi"), data.index(b"idx1")) if name == "a.avi" else (0, len(data))
    path.write_bytes(data[: begin + int((end - begin) * left)])
    assert "allow_truncated" in refused(path)
    part = load(path, allow_truncated=True)
    assert 0 < len(part.frames) < 20
    # a last packet that is cut through may decode to something; all before it are as they were
    assert torch.equal(part.frames[:-1], whole.frames[: len(part.frames) - 1])


def test_05_a_range_before_the_cut_needs_no_leave(tmp_path):
    path = write_clip(tmp_path / "a.mkv", smooth(20))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    assert len(load(path, 0, 5).frames) == 5


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("seed", range(4))
def test_06_flipped_bytes_in_mdat(tmp_path, codec, seed):
    path = write_clip(tmp_path / "a.mp4", smooth(12), codec=codec)
    data, whole = path.read_bytes(), load(path).frames
    start, end = next((start + 8, end) for name, start, end in top_boxes(data) if name == b"mdat")
    places = np.random.default_rng(seed).integers(start, end, size=3 + 20 * seed)
    path.write_bytes(flipped(data, places.tolist()))
    count = frames_or_refusal(path)
    assert count is None or torch.equal(load(path).frames, whole)


def test_07_audio_only(tmp_path):
    assert "holds only audio" in refused(sound_only(tmp_path / "a.m4a"))


def test_07_a_cover_picture_is_no_video(tmp_path):
    Image.fromarray(corners()).save(tmp_path / "cover.png")
    sound_only(tmp_path / "s.m4a")
    with (
        av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as output,
        av.open(str(tmp_path / "s.m4a")) as sound,
    ):
        copied = output.add_stream_from_template(sound.streams.audio[0])
        cover = output.add_stream("png", rate=1, width=64, height=48, pix_fmt="rgb24")
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in cover.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")):
            output.mux(packet)
        for packet in sound.demux():
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    assert "with pictures in it" in refused(tmp_path / "a.m4a")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_08_zero_frames(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        codec = "mpeg4" if name == "a.avi" else "libx264"
        container.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuv420p")
        container.start_encoding()
    assert refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.gif"])
def test_09_one_frame(tmp_path, name):
    with VideoWriter(tmp_path / name, 64, 48, rate=25, settings=QUICK) as writer:
        writer.write(torch.from_numpy(smooth(1)[0])[None])
    clip = load(tmp_path / name)
    assert clip.frames.shape == (1, 48, 64, 3)
    assert clip.timestamps == (0,)
    assert float(clip.end_time) == pytest.approx(0.04, abs=0.002)
