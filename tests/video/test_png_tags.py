"""Colours as the chunks of a PNG mean them, held against LittleCMS and against clips with the same tags."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from evenreel.video import load
from evenreel.video.hdr import tone_map
from evenreel.video.primaries import CHROMATICITIES
from video.making import smooth
from video.test_colour import BT2020, P3, by_littlecms, profile

PICTURE = smooth(1)[0]


def saved(path, *chunks, picture=PICTURE, **more):
    told = PngInfo()
    for name, data in chunks:
        told.add(name, data)
    Image.fromarray(picture).save(path, pnginfo=told, **more)
    return path


def cicp(primaries, transfer, full_range=1):
    return b"cICP", bytes((primaries, transfer, 0, full_range))


def gamma(value):
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def chromaticities(primaries):
    red, green, blue, white = CHROMATICITIES[primaries]
    numbers = [round(value * 100_000) for pair in (white, red, green, blue) for value in pair]
    return b"cHRM", struct.pack(">8I", *numbers)


def off(path, wanted):
    return int(np.abs(load(path).frames[0].numpy().astype(int) - wanted.astype(int)).max())


@pytest.mark.parametrize("primaries", [P3, BT2020])
def test_primaries_are_those_that_are_told(primaries, tmp_path):
    wanted = by_littlecms(PICTURE, profile(primaries))
    assert np.abs(wanted.astype(int) - PICTURE).max() > 20
    assert off(saved(tmp_path / "a.png", cicp(primaries, 13)), wanted) <= 3
    assert off(saved(tmp_path / "b.png", gamma(0.45455), chromaticities(primaries)), wanted) <= 3


@pytest.mark.parametrize("power", [1.0, 1.8])
def test_a_gamma_is_a_power(power, tmp_path):
    light = (PICTURE / 255) ** power
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert off(saved(tmp_path / "a.png", gamma(1 / power)), wanted.round()) <= 1


@pytest.mark.parametrize("transfer", [16, 18])
def test_pq_and_hlg_are_tone_mapped_as_clips_are(transfer, tmp_path):
    wanted = tone_map(torch.from_numpy(PICTURE).int() * 257, transfer, BT2020).numpy()
    assert off(saved(tmp_path / "a.png", cicp(BT2020, transfer)), wanted) == 0


def test_levels_from_16_to_235(tmp_path):
    narrow = (16 + PICTURE.astype(float) * 219 / 255).round().astype(np.uint8)
    assert off(saved(tmp_path / "a.png", cicp(1, 13, full_range=0), picture=narrow), PICTURE) <= 1


def test_transparent_ones_too(tmp_path):
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    wanted = by_littlecms(PICTURE, profile(P3))
    assert off(saved(tmp_path / "a.png", cicp(P3, 13), picture=rgba), wanted) <= 3


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [gamma(0.45455), chromaticities(1)],
        [cicp(1, 13)],
        [cicp(2, 2)],
        [(b"sRGB", b"\0"), gamma(1.0), chromaticities(P3)],
        [gamma(0)],
        [(b"cHRM", bytes(32))],
        [(b"cHRM", struct.pack(">8I", *[33_000] * 8))],
        [(b"cHRM", struct.pack(">8I", *[2**31 - 1] * 8))],
        [(b"cICP", b"\x0c\x0d")],
    ],
    ids=[
        "none",
        "sRGB in numbers",
        "cICP of sRGB",
        "not known",
        "sRGB",
        "gamma 0",
        "zeros",
        "a point",
        "huge",
        "short",
    ],
)
def test_what_is_srgb_or_makes_no_sense_changes_nothing(chunks, tmp_path):
    assert off(saved(tmp_path / "a.png", *chunks), PICTURE) == 0


def test_a_profile_ranks_above_gamma_and_code_points_above_a_profile(tmp_path):
    wanted = by_littlecms(PICTURE, profile(P3))
    told = {"icc_profile": profile(P3)}
    assert off(saved(tmp_path / "a.png", gamma(1.0), **told), wanted) <= 3
    assert off(saved(tmp_path / "b.png", cicp(1, 13), **told), PICTURE) == 0
