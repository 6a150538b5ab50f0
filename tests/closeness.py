"""How near to each other numbers must be: one way for all tests, so that they pass on every processor.

Processors round differently, and by more the larger the numbers are. So a tolerance is a share of the largest value
that is compared, never a number by itself, and there are few of them:

    assert_close(ours, theirs)                  # one computation, rounded in another order
    assert_close(ours, theirs, NETWORK)         # float32 through a network, or a few of its steps
    assert_apart(one, other)                    # a switch that must show

A law that holds through a whole edit is tested in float64 (`tiny.exact_backbone`): rounding stays below 1e-12 there,
and 1e-9 tells every defect from it. What rests on which of two nearly equal numbers is the larger has no tolerance at
all: such a test is built so that they are not near, or it runs in float64.
"""

import math

import torch
from torch import Tensor

OPERATION = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Share of the largest value that rounding stays far below in a sum, a product, a filter; in float64, in everything."""
NETWORK = 1e-4
"""The same in float32 through networks with random weights, each of whose layers makes errors larger."""
VISIBLE = 1e-3
"""Share of the largest value beyond which numbers count as different, far above both."""


def difference(ours: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value; 0 where all is zero, inf where one is not finite."""
    assert ours.shape == expected.shape, f"shape {tuple(ours.shape)} is not {tuple(expected.shape)}"
    ours, expected = (one.detach().double() for one in (ours, expected))
    if not (ours.isfinite().all() and expected.isfinite().all()):
        return math.inf
    scale = max(ours.abs().max().item(), expected.abs().max().item())
    return (ours - expected).abs().max().item() / scale if scale else 0.0


def assert_close(ours: Tensor, expected: Tensor, within: float | None = None) -> None:
    """Hold that two tensors differ by rounding alone; `within` is a share, by default that of the coarser type."""
    if within is None:
        within = max(OPERATION[one.dtype] for one in (ours, expected))
    found = difference(ours, expected)
    assert found <= within, f"they differ by {found:.1e} of the largest value, more than {within:.1e}"


def assert_apart(one: Tensor, other: Tensor, by: float = VISIBLE) -> None:
    """Hold that two tensors differ by more than rounding."""
    found = difference(one, other)
    assert by < found < math.inf, f"they differ by {found:.1e} of the largest value, not by {by:.1e}"


def rows_apart(one: Tensor, other: Tensor) -> list[bool]:
    """For each row, whether it is another one, beyond rounding."""
    return [difference(row, its) > VISIBLE for row, its in zip(one, other, strict=True)]
