"""Bad and odd input: a typed error of one sentence, or a correct result. Numbers in names are those of the faults."""

import os
import socket
import struct
import time
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evenreel.errors import ClipError
from evenreel.video import ReadSettings, VideoWriter, WriteSettings, load, open_clip
from evenreel.video.source import DEMUXERS
from video.making import CORNERS, corners, moving, psnr, smooth, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)
PQ, HLG = 16, 18
SECONDS = 5
"""More than any refusal may take, on a busy machine as well."""


def refused(path: str | os.PathLike[str], *, allow_truncated: bool = False) -> str:
    """The text of the ClipError that loading ends in, checked for its form: one line that ends like a sentence."""
    begun = time.monotonic()
    with pytest.raises(ClipError) as caught:
        load(path, allow_truncated=allow_truncated)
    assert time.monotonic() - begun < SECONDS
    check_form(caught.value)
    return str(caught.value)


def check_form(error: ClipError) -> None:
    assert str(error).endswith(".")
    assert str(error).isprintable()


def frames_or_refusal(path: Path, *, allow_truncated: bool = False) -> int | None:
    """How many frames load, or None for a ClipError; any other exception, or a long wait, is a failure."""
    begun = time.monotonic()
    count = 0
    try:
        for pixels, times in open_clip(path, allow_truncated=allow_truncated):
            assert len(pixels) == len(times)
            count += len(pixels)
    except ClipError as error:
        check_form(error)
        count = None
    assert time.monotonic() - begun < SECONDS
    return count


def flipped(data: bytes, places: list[int]) -> bytes:
    """Bytes with every bit of some of them turned over."""
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 0xFF
    return bytes(damaged)


def box_at(data: bytes, name: bytes) -> int:
    """Where the contents of the first box of a name begin, in an MP4."""
    return data.index(name) + 4


def top_boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, start and end of the outermost boxes of an MP4."""
    boxes, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        boxes.append((name, at, at + size))
        at += size
    return boxes


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# Files that are no videos


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


# Damage


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_04_mp4_without_moov(tmp_path, left):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    data = path.read_bytes()
    start = next(start for name, start, _ in top_boxes(data) if name == b"moov")
    path.write_bytes(data[: int(start * left)])
    assert "not a video that can be read" in refused(path, allow_truncated=True)


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
    assert "--allow-truncated" in refused(path)
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
    data = path.read_bytes()
    start, end = next((start + 8, end) for name, start, end in top_boxes(data) if name == b"mdat")
    places = np.random.default_rng(seed).integers(start, end, size=3 + 20 * seed)
    path.write_bytes(flipped(data, places.tolist()))
    assert frames_or_refusal(path) in (12, None)


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


# Odd but valid


def test_10_variable_rate_keeps_timestamps(tmp_path):
    units = [0, 40, 45, 200, 210, 211, 600, 640, 1000, 1033]
    source = write_clip(tmp_path / "s.mkv", moving(10), times=units, time_base=Fraction(1, 1000))
    clip = load(source)
    assert clip.timestamps == tuple(Fraction(unit, 1000) for unit in units)
    for name in ("a.mp4", "a.mkv"):
        with VideoWriter(tmp_path / name, 64, 48, audio_from=clip.info, settings=QUICK) as writer:
            writer.write(clip.frames, clip.timestamps, clip.end_time)
        written = load(tmp_path / name)
        assert written.timestamps == clip.timestamps
        assert written.end_time == clip.end_time


@pytest.mark.parametrize("size", [(63, 47), (65, 48), (7, 5), (6, 4), (1, 1), (3, 100)])
def test_11_odd_and_tiny_sizes(tmp_path, size):
    width, height = size
    source = write_clip(
        tmp_path / "s.mkv", smooth(3, width, height), codec="ffv1", pixel_format="bgr0", matrix=None
    )
    clip = load(source)
    assert clip.frames.shape == (3, height, width, 3)
    assert np.array_equal(clip.frames.numpy(), np.stack(smooth(3, width, height)))
    for name in ("a.mp4", "a.mkv", "a.gif", "frames"):
        with VideoWriter(tmp_path / name, width, height, settings=QUICK) as writer:
            writer.write(clip.frames, clip.timestamps, clip.end_time)
        assert load(tmp_path / name).frames.shape == clip.frames.shape


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "gray10le"])
def test_12_deep_colour(tmp_path, pixel_format):
    pictures = smooth(3)
    if pixel_format.startswith("gray"):
        pictures = [np.repeat(picture[..., :1], 3, axis=-1) for picture in pictures]
    path = write_clip(tmp_path / "a.mkv", pictures, codec="ffv1", pixel_format=pixel_format)
    clip = load(path)
    assert not clip.info.hdr
    assert psnr(clip.frames, np.stack(pictures)) > 36


@pytest.mark.parametrize(("matrix", "readable"), [(3, True), (12, True), (10, True), (8, False), (14, False)])
def test_12_matrices_that_no_converter_knows(tmp_path, matrix, readable):
    """Reserved and rare numbers are guessed at; YCgCo and ICtCp are nothing that a guess comes near."""
    path = write_clip(
        tmp_path / "a.mkv", smooth(3), codec="ffv1", pixel_format="yuv444p", tags={"colorspace": matrix}
    )
    if readable:
        assert psnr(load(path).frames, np.stack(smooth(3))) > 18
    else:
        assert "colours of frame 0" in refused(path)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_12_hdr_becomes_sensible_pixels(tmp_path, transfer):
    # greys from black to the code of diffuse white (BT.2408: 58 % in PQ, 75 % in HLG), then to the end of the scale
    white = {PQ: 0.58, HLG: 0.75}[transfer]
    codes = np.repeat([0, white / 2, white, 1.0], 16)
    picture = np.repeat(np.tile(codes, (48, 1))[..., None], 3, axis=-1)
    path = write_clip(
        tmp_path / "a.mkv",
        [(picture * 65535).astype(np.uint16)] * 3,
        codec="ffv1",
        pixel_format="yuv444p10le",
        matrix=Colorspace.BT2020,
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": transfer},
    )
    clip = load(path)
    assert clip.info.hdr
    assert clip.frames.shape == (3, 48, 64, 3)
    black, grey, full, peak = (clip.frames[0, 24, x].tolist() for x in (8, 24, 40, 56))
    for colour in (black, grey, full, peak):
        assert max(colour) - min(colour) <= 3
    assert max(black) <= 2
    assert 30 < grey[0] < 150
    assert 200 < full[0] < 245
    assert min(peak) >= 253


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.mov", "png", "rgba"), ("a.mov", "qtrle", "argb"), ("a.webm", "libvpx-vp9", "yuva420p")],
)
def test_13_alpha_lies_on_the_background(tmp_path, name, codec, pixel_format):
    picture = np.full((48, 64, 4), 255, np.uint8)
    picture[..., :3], picture[:, :32, 3] = (200, 30, 30), 0
    path = write_clip(
        tmp_path / name,
        [picture] * 3,
        codec=codec,
        pixel_format=pixel_format,
        matrix=None if "rgb" in pixel_format else Colorspace.ITU601,
        options={"crf": "4", "b": "0"} if codec == "libvpx-vp9" else None,
    )
    for background in ((255, 255, 255), (0, 90, 200)):
        clip = load(path, settings=ReadSettings(background=background))
        assert clip.info.has_alpha
        assert np.abs(clip.frames[0, 24, 8].int().numpy() - background).max() <= 3
        assert np.abs(clip.frames[0, 24, 56].int().numpy() - (200, 30, 30)).max() <= 6


def test_13_alpha_of_images(tmp_path):
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, 32:] = (200, 30, 30, 255)
    Image.fromarray(picture).save(tmp_path / "a.png")
    frame = load(tmp_path / "a.png").frames[0]
    assert frame[24, 8].tolist() == [255, 255, 255]
    assert frame[24, 56].tolist() == [200, 30, 30]


@pytest.mark.parametrize(
    ("display", "names"),
    [
        ((0, False, False), "red green blue grey"),
        ((90, False, False), "green grey red blue"),
        ((180, False, False), "grey blue green red"),
        ((270, False, False), "blue red grey green"),
        ((0, True, False), "green red grey blue"),
        ((0, False, True), "blue grey red green"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_14_rotation_and_mirror(tmp_path, name, display, names):
    """FFmpeg's angles are counter-clockwise."""
    clip = load(write_clip(tmp_path / name, [corners()] * 3, rotation=display))
    width, height = (48, 64) if display[0] in (90, 270) else (64, 48)
    assert (clip.info.width, clip.info.height) == (width, height)
    assert clip.frames.shape == (3, height, width, 3)
    assert clip.info.mirrored == (display[1] != display[2])
    found = [
        min(CORNERS, key=lambda n: np.abs(clip.frames[1, y, x].int().numpy() - CORNERS[n]).sum())
        for y in (6, height - 7)
        for x in (6, width - 7)
    ]
    assert found == names.split()


@pytest.mark.parametrize("second", [(32, 32), (128, 96), (48, 64)])
def test_15_resolution_change_mid_stream(tmp_path, second):
    parts = [
        write_clip(tmp_path / f"{index}.ts", smooth(5, *size), options={"preset": "ultrafast", "bf": "0"})
        for index, size in enumerate([(64, 48), second])
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = load(path)
    assert clip.frames.shape == (10, 48, 64, 3)
    assert all(later > earlier for earlier, later in zip(clip.timestamps, clip.timestamps[1:], strict=False))
    assert psnr(clip.frames[:5], load(parts[0]).frames) > 60
    assert clip.frames[5:].float().std() > 20


def test_15_a_stream_that_appears_mid_file(tmp_path):
    """Broadcasts begin anywhere; sound that only comes later must not end the pictures."""
    silent = write_clip(tmp_path / "0.ts", smooth(5))
    with_sound = write_clip(tmp_path / "1.ts", smooth(60), audio="aac")
    path = tmp_path / "a.ts"
    path.write_bytes(silent.read_bytes() * 400 + with_sound.read_bytes())
    assert frames_or_refusal(path) is not None


def test_15_empty_packets_leave_the_picture_as_it_is(tmp_path):
    """Screen recorders write empty packets for pictures that did not change."""
    source = write_clip(tmp_path / "s.avi", moving(6), codec="mpeg4", options={"bf": "0"})
    with av.open(str(source)) as given_, av.open(str(tmp_path / "a.avi"), "w") as output:
        stream = output.add_stream_from_template(given_.streams.video[0])
        for packet in given_.demux(video=0):
            if packet.size:
                sent = av.Packet(0) if packet.pts in (2, 5) else packet
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.pts, packet.time_base
                sent.stream = stream
                output.mux(sent)
    clip = load(tmp_path / "a.avi")
    assert [round(float(time * 25)) for time in clip.timestamps] == [0, 1, 3, 4]


@pytest.mark.parametrize(("aspect", "width"), [((4, 3), 86), ((1, 2), 32), ((1, 1), 64), ((1000, 1), 64)])
def test_16_pixels_are_made_square(tmp_path, aspect, width):
    path = write_clip(tmp_path / "a.mkv", [corners()] * 3, aspect=Fraction(*aspect))
    clip = load(path)
    assert (clip.info.width, clip.info.height) == (width, 48)
    assert clip.frames.shape == (3, 48, width, 3)


def test_16_interlaced_frames_are_made_whole(tmp_path):
    """Each frame holds two moments of a moving edge; whole again, neighbouring rows agree."""
    pictures = []
    for index in range(12):
        fields = [np.zeros((48, 64, 3), np.uint8) for _ in range(2)]
        for half, field in enumerate(fields):
            field[:, 4 * index + 2 * half :] = 200
        fields[0][1::2] = fields[1][1::2]
        pictures.append(fields[0])
    path = write_clip(
        tmp_path / "a.mkv",
        pictures,
        options={"x264-params": "interlaced=1:tff=1", "preset": "ultrafast", "crf": "4"},
    )
    clip = load(path)
    assert clip.info.interlaced
    assert len(clip.frames) == 12
    assert [float(t) for t in clip.timestamps] == pytest.approx([i / 25 for i in range(12)], abs=0.001)

    def combing(frames) -> float:
        rows = frames.astype(float)
        return float(np.abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean())

    assert combing(clip.frames.numpy()[2:-2]) < 0.5 * combing(np.stack(pictures)[2:-2])


# Bombs and absurd headers


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


# Led elsewhere


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


# Any damage at all


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, bytes]:
    path = write_clip(tmp_path_factory.mktemp("damage") / "a.mp4", smooth(5), audio="aac")
    return path, path.read_bytes()


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_never_raises_anything_else(whole, data):
    path, content = whole
    count = data.draw(st.integers(1, 40), "count")
    places = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=count, max_size=count), "places")
    values = data.draw(st.binary(min_size=count, max_size=count), "values")
    damaged = bytearray(content)
    for place, value in zip(places, values, strict=True):
        damaged[place] = value
    path.write_bytes(damaged)
    for allow_truncated in (False, True):
        frames_or_refusal(path, allow_truncated=allow_truncated)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(place=st.floats(0, 1), bits=st.integers(1, 255))
def test_one_damaged_header_byte_never_raises_anything_else(whole, place, bits):
    """The index is where a wrong number does most; it is a small part of the file, so it has its own test."""
    path, content = whole
    start, end = next((start, end) for name, start, end in top_boxes(content) if name == b"moov")
    damaged = bytearray(content)
    damaged[start + int(place * (end - start - 1))] ^= bits
    path.write_bytes(damaged)
    frames_or_refusal(path)


HEADS = [
    b"",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"BM",
    b"GIF89a\x40\0\x30\0",
    b"\x1a\x45\xdf\xa3",
    b"\0\0\0\x18ftypmp42",
    b"RIFF\xff\xff\0\0AVI LIST",
    b"FLV\x01\x05\0\0\0\x09",
    b"OggS",
    b"\x47\x40\0\x10",
    b"\0\0\x01\xba",
    b"DKIF\0\0\x20\0VP90",
    b"YUV4MPEG2 W64 H48 F25:1\nFRAME\n",
]
"""Beginnings that send random bytes to each of the parsers."""


@settings(max_examples=100, deadline=None, derandomize=True)
@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=400))
def test_random_bytes_never_raise_anything_else(whole, head, tail):
    path, _ = whole
    path.write_bytes(head + tail)
    frames_or_refusal(path, allow_truncated=True)
    frames_or_refusal(path)
