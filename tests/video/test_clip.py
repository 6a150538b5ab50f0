"""Clips made of pictures in memory, and what a notebook shows of one."""

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import evenreel

PICTURES = torch.arange(3 * 16 * 24 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(3, 16, 24, 3)


@pytest.mark.parametrize(
    "told",
    [
        PICTURES,
        PICTURES.numpy(),
        list(PICTURES.numpy()),
        [Image.fromarray(one) for one in PICTURES.numpy()],
    ],
    ids=["tensor", "array", "arrays", "pictures"],
)
def test_pictures_become_a_clip_and_come_back_from_a_file(told, tmp_path):
    clip = evenreel.Clip.from_frames(told, fps=24)
    assert torch.equal(clip.frames, PICTURES)
    assert clip.timestamps == (Fraction(0), Fraction(1, 24), Fraction(1, 12))
    evenreel.save(clip, tmp_path / "clip")
    read = evenreel.load(tmp_path / "clip")
    assert torch.equal(read.frames, PICTURES)


def test_it_is_not_changed_with_the_array_that_it_was_made_of():
    array = PICTURES.numpy().copy()
    clip = evenreel.Clip.from_frames(array, fps=24)
    array[:] = 0
    assert torch.equal(clip.frames, PICTURES)


@pytest.mark.parametrize(
    ("fps", "exact"), [(29.97, Fraction(2997, 100)), (Fraction(30000, 1001),) * 2, (8, Fraction(8))]
)
def test_rates_are_exact(fps, exact):
    assert evenreel.Clip.from_frames(PICTURES, fps).info.average_rate == exact


@pytest.mark.parametrize(
    ("told", "fps", "said"),
    [
        (PICTURES.float() / 255, 24, "float32"),
        (PICTURES.permute(0, 3, 1, 2), 24, "3, 3, 16, 24"),
        (PICTURES[:0], 24, "0, 16, 24, 3"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], 24, "one size"),
        ("in.mp4", 24, "frames"),
        (PICTURES, 0, "fps"),
        (PICTURES, float("nan"), "fps"),
    ],
)
def test_what_is_no_clip_is_one_sentence(told, fps, said):
    with pytest.raises(evenreel.SettingsError, match=said):
        evenreel.Clip.from_frames(told, fps)


def test_a_notebook_shows_its_frames():
    picture = Image.open(io.BytesIO(evenreel.Clip.from_frames(PICTURES, 24)._repr_png_()))
    assert picture.width > 3 * 192  # three pictures of 192 x 128 beside each other
    assert picture.height > 128


def test_bars_show_the_stages_of_an_edit(capsys):
    clip = evenreel.Clip.from_frames(PICTURES, 24)
    edited = evenreel.edit(clip, "a star", steps=1, progress=True)
    shown = capsys.readouterr().err
    for stage in ("encode", "edit", "decode"):
        assert stage in shown
    assert edited.record["not_repeatable"] == "its source was never a file"
