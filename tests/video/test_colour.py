"""Colours of other primaries, transfer functions and profiles, held against LittleCMS."""

import struct

import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from PIL import Image, ImageCms

from evenreel.video import VideoWriter, load
from evenreel.video.primaries import CHROMATICITIES, matrix, to_bt709
from video.making import smooth, write_clip

P3, BT2020, SD = 12, 9, 6
BRADFORD_D50 = np.array(
    [[1.0479, 0.0229, -0.0502], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7517]]
)  # D65 to the white of profiles (ICC.1:2022, annex E)


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def profile(primaries: int, gamma: float | None = None) -> bytes:
    """A display profile of the simplest kind, with the curve of sRGB or a power, laid out as ICC.1 says."""
    red, green, blue, (x, y) = CHROMATICITIES[primaries]
    columns = np.array([[a / b, 1, (1 - a - b) / b] for a, b in (red, green, blue)]).T
    white = np.array([x / y, 1, (1 - x - y) / y])
    xyz = BRADFORD_D50 @ (columns * np.linalg.solve(columns, white))
    curve = (
        b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + fixed(gamma)
        if gamma is not None
        else b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    )  # fmt: skip
    text = "test".encode("utf-16-be")
    tags = {
        b"desc": b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        **{name: b"XYZ \0\0\0\0" + fixed(*xyz[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = at + len(body)
    head = (
        struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x04300000, b"mntr", b"RGB ", b"XYZ ")
        + b"\0" * 12
        + b"acsp"
    )
    return head.ljust(68, b"\0") + fixed(0.9642, 1.0, 0.8249).ljust(60, b"\0") + table + body


def by_littlecms(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    from io import BytesIO

    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels), ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    return np.asarray(converted)


@pytest.mark.parametrize("primaries", [1, 5, 6, 9, 12, 22])
def test_primaries_agree_with_littlecms(primaries):
    pixels = smooth(1)[0]
    ours = to_bt709(torch.from_numpy(pixels), primaries, 1).numpy().astype(int)
    assert np.abs(ours - by_littlecms(pixels, profile(primaries))).max() <= 3


@pytest.mark.parametrize(("transfer", "gamma"), [(4, 2.2), (5, 2.8)])
def test_powers_agree_with_littlecms(transfer, gamma):
    pixels = smooth(1)[0]
    ours = to_bt709(torch.from_numpy(pixels), 1, transfer).numpy().astype(int)
    assert np.abs(ours - by_littlecms(pixels, profile(1, gamma))).max() <= 3


def test_the_matrix_of_bt2020_is_that_of_bt2087():
    wanted = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
    assert np.allclose(matrix(BT2020), wanted, atol=1e-4)
    for primaries in CHROMATICITIES:  # grey stays grey, whatever the white
        assert np.allclose(matrix(primaries).sum(1), 1, atol=1e-3)


@pytest.mark.parametrize("primaries", [P3, BT2020, SD])
def test_tagged_clips_are_converted_and_results_tagged_as_they_are(tmp_path, primaries):
    picture = np.full((48, 64, 3), (200, 79, 59), np.uint8)
    path = write_clip(
        tmp_path / "a.mp4", [picture] * 3, pixel_format="yuv444p",
        tags={"colorspace": 1, "color_primaries": primaries, "color_trc": 1},
    )  # fmt: skip
    clip = load(path)
    wanted = by_littlecms(picture, profile(primaries))[0, 0].astype(int)
    assert np.abs(clip.frames[0, 24, 32].numpy().astype(int) - wanted).max() <= 3
    for name in ("b.mp4", "b.mkv", "b.webm"):
        with VideoWriter(tmp_path / name, 64, 48, rate=25) as writer:
            writer.write(clip.frames)
        again = load(tmp_path / name)
        assert np.abs(again.frames[0, 24, 32].numpy().astype(int) - wanted).max() <= 4


def test_clips_of_the_usual_colours_are_left_as_they_are(tmp_path):
    usual = ({}, {"color_primaries": 1, "color_trc": 1}, {"color_trc": 13})
    clips = [
        load(
            write_clip(
                tmp_path / f"{number}.mkv",
                smooth(2),
                codec="ffv1",
                pixel_format="yuv444p",
                tags={"colorspace": 1, **tags},
            )
        )
        for number, tags in enumerate(usual)
    ]
    assert torch.equal(clips[0].frames, clips[1].frames)
    assert torch.equal(clips[0].frames, clips[2].frames)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGB"), ("a.png", "RGBA"), ("a.jpg", "RGB"), ("a.webp", "RGB")]
)
def test_profiles_of_images(tmp_path, name, mode):
    picture = np.full((16, 16, 3), (200, 79, 59), np.uint8)
    quality = (
        {"quality": 100, "subsampling": 0}
        if name == "a.jpg"
        else {"lossless": True}
        if "webp" in name
        else {}
    )
    Image.fromarray(picture).convert(mode).save(tmp_path / name, icc_profile=profile(P3), **quality)
    found = load(tmp_path / name).frames[0, 8, 8].numpy().astype(int)
    assert np.abs(found - by_littlecms(picture, profile(P3))[0, 0]).max() <= 3
    assert np.abs(found - (200, 79, 59)).max() > 8


def grey_profile(gamma: float) -> bytes:
    """A profile of grey with a power, laid out as ICC.1 says."""
    text = "test".encode("utf-16-be")
    tags = {
        b"desc": b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"kTRC": b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + fixed(gamma),
    }
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    kind = struct.pack(">I4sI4s4s4s", at + len(body), b"\0" * 4, 0x04300000, b"mntr", b"GRAY", b"XYZ ")
    head = kind + b"\0" * 12 + b"acsp"
    return head.ljust(68, b"\0") + fixed(0.9642, 1.0, 0.8249).ljust(60, b"\0") + table + body


@pytest.mark.parametrize("depth", [8, 16])
def test_profiles_of_grey_pictures(tmp_path, depth):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(levels if depth == 8 else levels.astype(np.uint16) * 257)
    picture.save(tmp_path / "a.png", icc_profile=grey_profile(1.8))
    from io import BytesIO

    wanted = ImageCms.profileToProfile(
        Image.fromarray(levels),
        ImageCms.ImageCmsProfile(BytesIO(grey_profile(1.8))),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    found = load(tmp_path / "a.png").frames[0].numpy().astype(int)
    assert np.abs(found - np.asarray(wanted)).max() <= 1
    assert np.abs(found[..., 0] - levels).max() > 8


@pytest.mark.parametrize("icc", [b"no profile", profile(P3)[:200]])
def test_profiles_that_make_no_sense_change_nothing(tmp_path, icc):
    picture = smooth(1)[0]
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=icc)
    assert np.array_equal(load(tmp_path / "a.png").frames[0].numpy(), picture)


def test_the_profile_of_srgb_changes_nothing(tmp_path):
    picture = smooth(1)[0]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=srgb)
    assert np.array_equal(load(tmp_path / "a.png").frames[0].numpy(), picture)


def test_matrices_are_not_confused_with_primaries(tmp_path):
    """SD matrix with BT.709 primaries is a common tag; only the matrix is undone."""
    pictures = smooth(2)
    tags = {"colorspace": 6, "color_primaries": 1, "color_trc": 1}
    path = write_clip(
        tmp_path / "a.mkv",
        pictures,
        codec="ffv1",
        pixel_format="yuv444p",
        matrix=Colorspace.ITU601,
        tags=tags,
    )
    assert np.abs(load(path).frames.numpy().astype(int) - np.stack(pictures)).max() <= 3
