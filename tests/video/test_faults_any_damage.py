"""Whatever happens to a file, it is read or refused in one sentence."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video.damage import frames_or_refusal, top_boxes
from video.making import smooth, write_clip


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
