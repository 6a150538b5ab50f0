"""Faults 17 to 20: bombs, absurd headers, and files that lead elsewhere."""

import os
import socket
import struct
import time
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from evenreel.errors import ClipError
from evenreel.video import ReadSettings, VideoWriter, WriteSettings, load
from evenreel.video.source import DEMUXERS
from video.damage import box_at, frames_or_refusal, refused
from video.making import moving, smooth, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)


def png_of_zeros(width: int, height: int) -> bytes:
    """A black PNG (one bit to a pixel, for speed) of any size that is small on disk and never was in memory."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_17_pixel_bomb(tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "a.png").write_bytes(png_of_zeros(12000, 12000))
    assert (tmp_path / "a.png").stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    assert "12000 x 12000" in refused(tmp_path / "a.png")
    assert "12000 x 12000" in refused(tmp_path)
    assert time.process_time() - begun < 0.5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # kilobytes (bytes on a Mac, where this holds less)


def test_17_a_bomb_in_a_container(tmp_path):
    """FFmpeg itself would decode it: the limit must reach the decoder."""
    path = write_clip(tmp_path / "a.mov", smooth(2), codec="png", pixel_format="rgb24", matrix=None)
    data = path.read_bytes().replace(
        b"IHDR" + struct.pack(">II", 64, 48), b"IHDR" + struct.pack(">II", 12000, 12000)
    )
    path.write_bytes(data)
    assert refused(path)


def test_17_frames_above_the_limit(tmp_path):
    path = write_clip(tmp_path / "a.mp4", smooth(2, 128, 96))
    with pytest.raises(ClipError, match=r"128 x 96|not a video|damaged|no frames"):
        load(path, settings=ReadSettings(max_pixels=64 * 48))


@pytest.mark.parametrize("what", ["durations", "rate", "count"])
def test_18_absurd_headers(tmp_path, what):
    path = write_clip(tmp_path / "a.mp4", smooth(10), audio="aac" if what == "durations" else None)
    data = bytearray(path.read_bytes())
    if what == "durations":
        struct.pack_into(">I", data, box_at(data, b"mvhd") + 16, 0xFFFFFFF0)
        struct.pack_into(">I", data, box_at(data, b"mdhd") + 16, 0xFFFFFFF0)
    elif what == "rate":
        struct.pack_into(">I", data, box_at(data, b"mdhd") + 12, 0xFFFFFFF0)
    else:  # four thousand million samples of one size: a table that says so takes no room
        at = box_at(data, b"stsz")
        struct.pack_into(">II", data, at + 4, 1, 0x7FFFFFFF)
        struct.pack_into(">I", data, box_at(data, b"stts") + 8, 0x7FFFFFFF)
    path.write_bytes(data)
    assert frames_or_refusal(path) in (10, None)


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(1), Fraction(240), Fraction(1000)])
def test_18_extreme_rates_are_read(tmp_path, rate):
    path = write_clip(tmp_path / "a.mp4", moving(5), rate=rate)
    clip = load(path)
    assert clip.timestamps == tuple(index / rate for index in range(5))
    assert clip.end_time == 5 / rate


class Opened:
    """A server that only notes whether anybody calls."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.socket.settimeout(0.2)
        self.port = self.socket.getsockname()[1]

    def was_called(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except TimeoutError:
            return False
        return True


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
    "indented hls": "\n  #EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {other}\n",
    "concat without a head": "file {other}\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "pls": "[playlist]\nFile1={other}\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist>{other}</CompositionPlaylist>',
}


@pytest.mark.parametrize("kind", list(PLAYLISTS))
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat", "a.mpd"])
def test_19_playlists_open_no_other_file(tmp_path, kind, name):
    """The other file is a whole video: whoever follows the list reads it, and nothing is raised."""
    other = write_clip(tmp_path / "other.mp4", moving(3))
    for target in (other.name, other.as_uri()):
        (tmp_path / name).write_text(PLAYLISTS[kind].format(other=target))
        assert refused(tmp_path / name)
    server = Opened()
    (tmp_path / name).write_text(PLAYLISTS[kind].format(other=f"http://127.0.0.1:{server.port}/a.ts"))
    assert refused(tmp_path / name)
    assert not server.was_called()
    server.socket.close()


def test_19_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", moving(3))
    server = Opened()
    names = (
        "concat:a.mp4|a.mp4",
        f"http://127.0.0.1:{server.port}/a.mp4",
        f"tcp://127.0.0.1:{server.port}",
        "file:a.mp4",
        f"file://{tmp_path}/a.mp4",
        "subfile,,start,0,end,0,,:a.mp4",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "lavfi:testsrc",
        "-",
    )
    for name in names:
        assert refused(name)
    assert not server.was_called()
    server.socket.close()


def test_19_a_file_in_pieces_elsewhere(tmp_path):
    """A MOV may name another file as the home of its samples; the reader must not go there."""
    path = write_clip(tmp_path / "a.mov", moving(5))
    data = bytearray(path.read_bytes())
    at = box_at(data, b"dref")
    flags = at + 8 + 8  # version and flags, count; size and name of the first entry
    assert data[flags - 4 : flags] in (b"url ", b"alis")
    data[flags : flags + 4] = bytes(4)  # no longer "in this file"
    path.write_bytes(data)
    assert frames_or_refusal(path) in (5, None)


def test_19_only_formats_that_hold_their_frames():
    assert not {"hls", "dash", "concat", "sdp", "rtsp", "image2", "lavfi", "imf"} & set(DEMUXERS)


HOSTILE_NAMES = [
    "süß 影片 🎬",
    "-i",
    "--version",
    "two\nlines",
    " spaces ",
    "%03d",
    "a*b?[c]",
    "$(touch x)`y`;z",
    "concat:a",
    "http:a",
    "pipe:",
    "file:a",
    "quote'\"",
    "re\u202everse",
    "\udcff\udcfe",
    ".hidden",
]


@pytest.mark.skipif(os.name == "nt", reason="such names cannot exist there")
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_20_hostile_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pictures = torch.from_numpy(np.stack(moving(4)))
    for path in (f"{name}.mp4", f"{name}.gif", name.lstrip(".")):
        with VideoWriter(path, 64, 48, rate=25, settings=QUICK) as writer:
            writer.write(pictures)
        assert Path(path).exists()
        assert len(load(path).frames) == 4
    assert len(list(tmp_path.iterdir())) == 3
    Path(f"{name}.mp4").write_bytes(b"broken")
    assert "\n" not in refused(f"{name}.mp4")
    assert Path(f"{name}.mp4").read_bytes() == b"broken"
