"""The ruler itself: rounding passes and defects do not, however large the numbers; the other arithmetic is another."""

import os

import pytest
import torch

from closeness import NETWORK, OPERATION, assert_apart, assert_close, difference, rows_apart

SIZES = pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])


def made(size, dtype=torch.float32):
    return size * torch.randn(50, 40, generator=torch.Generator().manual_seed(0), dtype=dtype)


@SIZES
def test_a_product_summed_in_another_order_is_close(size):
    one = made(size)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert_close(one @ one.T, one[:, order] @ one.T[order])
    assert_close(one @ one.T, one.double() @ one.double().T)


@SIZES
@pytest.mark.parametrize("within", [None, NETWORK])
def test_one_wrong_number_is_a_defect(size, within):
    one = made(size)
    other = one.clone()
    other[3, 4] += 2 * (within or OPERATION[torch.float32]) * one.abs().max()
    with pytest.raises(AssertionError, match="of the largest value"):
        assert_close(other, one, within)


def test_float64_is_held_to_more():
    one = made(1.0, torch.float64)
    with pytest.raises(AssertionError, match="more than"):
        assert_close(one.float().double(), one)
    assert_close(one.float(), one)  # of two types the coarser one counts


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_is_neither_close_nor_apart(wrong):
    one = made(1.0)
    other = one.clone()
    other[0, 0] = wrong
    for check in (assert_close, assert_apart):
        with pytest.raises(AssertionError):
            check(one, other)


def test_shapes_must_be_equal():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.ones(3), torch.ones(3, 1))


def test_rounding_does_not_keep_apart():
    one = made(1.0)
    with pytest.raises(AssertionError, match="not by"):
        assert_apart(one, one * (1 + 1e-6))
    assert_apart(one, 1.01 * one)
    assert difference(torch.zeros(3), torch.zeros(3)) == 0


def test_rows():
    one = made(1.0)[:3]
    assert rows_apart(one, one + torch.tensor([[0.0], [0.1], [0.0]])) == [False, True, False]


@pytest.mark.skipif("ATEN_CPU_CAPABILITY" not in os.environ, reason="for ./scripts/test --other-arithmetic")
def test_the_other_arithmetic_is_at_work():
    assert torch.backends.cpu.get_cpu_capability().lower() == os.environ["ATEN_CPU_CAPABILITY"]
