"""Ways to look for a violation: tensors for hypothesis, and a climb towards the worst case."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from evenreel.theory.measured import Measured


@st.composite
def tensors(draw, *shape: int, largest: float = 3.0) -> Tensor:
    """Either drawn number by number, where hypothesis likes zeros and extremes, or normal ones from a seed."""
    count = torch.Size(shape).numel()
    if count <= 24 and draw(st.booleans()):
        numbers = st.floats(-largest, largest, allow_subnormal=False)
        values = draw(st.lists(numbers, min_size=count, max_size=count))
        return torch.tensor(values, dtype=torch.float64).view(shape)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([1e-3, 0.3, 1.0, largest]))
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def kept(*measured: Measured) -> None:
    """Assert that bounds are kept."""
    for one in measured:
        assert one.holds, one


def climbed(share: Callable[[Tensor], float], start: Tensor, *, steps: int, seed: int = 0) -> float:
    """Largest value found by random steps that only ever go up, shrinking as they fail."""
    generator = torch.Generator().manual_seed(seed)
    best, size = share(start), 0.5
    for _ in range(steps):
        trial = start + size * torch.randn(start.shape, generator=generator, dtype=start.dtype)
        value = share(trial)
        if value > best:
            start, best, size = trial, value, size * 1.5
        else:
            size = max(size * 0.9, 1e-3)
    return best
