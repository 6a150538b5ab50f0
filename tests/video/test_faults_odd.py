"""Faults 10 to 16: what is odd and yet valid."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from evenreel.video import ReadSettings, VideoWriter, WriteSettings, load
from video.damage import frames_or_refusal, refused
from video.making import CORNERS, corners, moving, psnr, smooth, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)
PQ, HLG = 16, 18


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
def test_15_resolution_change_mid_stream(tmp_path, caplog, second):
    parts = [
        write_clip(tmp_path / f"{index}.ts", smooth(5, *size), options={"preset": "ultrafast", "bf": "0"})
        for index, size in enumerate([(64, 48), second])
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with caplog.at_level("WARNING", "evenreel"):
        clip = load(path)
    assert f"size at frame 5, from 64 x 48 to {second[0]} x {second[1]}; all are scaled" in caplog.text
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
