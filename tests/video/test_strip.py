"""Film strips: every row where it belongs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evenreel.errors import OutputError, SettingsError
from evenreel.video import film_strip


def flat(levels: list[int], width: int = 64, height: int = 48) -> torch.Tensor:
    return torch.stack([torch.full((height, width, 3), level, dtype=torch.uint8) for level in levels])


def picture(path: Path) -> np.ndarray:
    """A written strip, in grey."""
    with Image.open(path) as image:
        return np.array(image.convert("L"))


def runs(line: np.ndarray) -> list[int]:
    """The levels along a line that last for more than ten pixels."""
    levels, lengths = [int(line[0])], [0]
    for level in line:
        if level != levels[-1]:
            levels.append(int(level))
            lengths.append(0)
        lengths[-1] += 1
    return [level for level, length in zip(levels, lengths, strict=True) if length > 10]


def test_frames_are_spread_from_first_to_last(tmp_path):
    rows = [flat(list(range(10, 210, 20))), flat([100, 150])]
    path = film_strip(rows, ["before", "after"], tmp_path / "s.png", columns=4, height=48)
    sheet = picture(path)
    middles = sheet.shape[0] // 4, sheet.shape[0] * 3 // 4
    assert [level for level in runs(sheet[middles[0] + 8]) if level != 255] == [10, 70, 130, 190]
    assert [level for level in runs(sheet[middles[1] + 8]) if level != 255] == [100, 150]


@pytest.mark.parametrize("columns", [1, 2, 50])
def test_any_number_of_columns(tmp_path, columns):
    path = film_strip([flat([1, 2, 3], 20, 90)], ["x"], tmp_path / "s.png", columns=columns, height=90)
    height, width = picture(path).shape
    assert height > 90
    assert width >= min(columns, 3) * 20


def test_labels_are_drawn_whole_and_on_one_line(tmp_path):
    short = picture(film_strip([flat([9])], ["a"], tmp_path / "short.png"))
    long = picture(film_strip([flat([9])], ["a long\nlabel " * 20], tmp_path / "long.png"))
    assert long.shape[1] > 5 * short.shape[1]
    assert long.shape[0] == short.shape[0]


@pytest.mark.parametrize(
    ("rows", "labels", "options"),
    [
        ([], [], {}),
        ([flat([1])], [], {}),
        ([flat([1])], ["x"], {"columns": 0}),
        ([flat([1])], ["x"], {"height": 0}),
    ],
)
def test_what_makes_no_strip_is_refused(tmp_path, rows, labels, options):
    with pytest.raises(SettingsError):
        film_strip(rows, labels, tmp_path / "s.png", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["s.jpg", "no/s.png"])
def test_where_it_cannot_be_written(tmp_path, name):
    with pytest.raises(OutputError):
        film_strip([flat([1])], ["x"], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
