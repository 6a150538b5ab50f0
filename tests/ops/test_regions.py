"""Parts of pictures: laws of growing, of soft edges, and of cells and pixels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evenreel.ops.regions import cells_of, feathered, grown, pixels_of


def drawn(seed: int, *shape: int, share: float = 0.05) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def distances(part: torch.Tensor) -> torch.Tensor:
    """Of each place to the part, the larger of the ways across and down; slow and plain."""
    found = torch.full(part.shape, 10_000)
    height, width = part.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for frame, row, column in part.nonzero().tolist():
        away = torch.maximum((y - row).abs(), (x - column).abs())
        found[frame] = torch.minimum(found[frame], away)
    return found


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_what_is_grown_holds_all_that_is_near(radius):
    part = drawn(0, 2, 20, 30, share=0.01)
    assert torch.equal(grown(part, radius), distances(part) <= radius)


@pytest.mark.parametrize("width", [0, 2, 6, 8])
def test_a_soft_edge_is_exactly_one_inside_and_exactly_nothing_farther_than_its_width(width):
    part = drawn(1, 2, 24, 40, share=0.004)
    weights, away = feathered(part, width), distances(part)
    assert (weights[part] == 1).all()
    assert (weights[away > width] == 0).all()
    between = (away > 0) & (away <= width)
    assert ((weights[between] > 0) & (weights[between] <= 1)).all()


def test_a_soft_edge_falls_evenly():
    part = torch.zeros(1, 40, 40, dtype=torch.bool)
    part[:, :, :20] = True
    slope = feathered(part, 8)[0, 20, 19:30]
    assert torch.allclose(slope, torch.tensor([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]) / 9)


sides = st.integers(1, 40)


@given(
    seed=st.integers(0, 99), height=sides, width=sides, rows=st.integers(1, 12), columns=st.integers(1, 12)
)
def test_pixels_of_the_cells_of_a_part_hold_the_part(seed, height, width, rows, columns):
    part = drawn(seed, 2, height, width)
    cells = cells_of(part, (rows, columns))
    assert cells.shape == (2, rows, columns)
    if rows <= height and columns <= width:
        assert pixels_of(cells, (height, width))[part].all()
    assert bool(cells.any()) or not bool(part.any()) or rows > height or columns > width


@given(seed=st.integers(0, 99), rows=st.integers(1, 12), columns=st.integers(1, 12), more=st.integers(0, 30))
def test_cells_come_back_from_their_pixels(seed, rows, columns, more):
    cells = drawn(seed, 2, rows, columns, share=0.4)
    assert torch.equal(cells_of(pixels_of(cells, (rows + more, columns + 2 * more)), (rows, columns)), cells)
