"""Which number types a device is good at: measured, because it differs a hundredfold between processors.

Rates of matrix products, GFLOP/s of one thread, as measured:

| processor                              | float32 | bfloat16 | float16 |
|----------------------------------------|---------|----------|---------|
| x86 with AMX                           | 101-105 |  384-488 |         |
| x86 with AVX-512 and its BF16          |     104 |      224 |     3.2 |
| the same, held to AVX-512 without BF16 |     104 |       38 |     3.2 |
| the same, held to AVX2                 |     104 |      3.2 |     3.2 |
| x86 with AVX2                          |      75 |      .97 |         |
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from math import inf

import torch

_CLEARLY = 0.5
"""A type whose rate is below this share of float32's is slow. The shares measured are .36 and less, or 2 and more; what
else the machine does meanwhile moves them by less."""

_SMALLEST, _LARGEST, _LARGEST_ON_CPU = 256, 8192, 2048
_LONG_ENOUGH = 0.005
"""Seconds of one product beyond which a larger one would tell nothing new."""
_SPENT = 0.02
"""Seconds spent on products of one size: several turns of the system's scheduler, so that one runs undisturbed."""


def matmul_rate(dtype: torch.dtype, device: str | torch.device = "cpu") -> float:
    """Measure the rate of matrix products in GFLOP/s: of the device, on a CPU of one thread; 0 where there are none.

    One thread, because several that share their cores with other programs wait for one another, fifty times longer
    at worst. Takes a tenth of a second; the process remembers the answer. Global random numbers stay as they are.
    """
    return _measured(dtype, torch.device(device))


def is_slow(dtype: torch.dtype, device: str | torch.device = "cpu") -> bool:
    """Tell whether `device` does not know `dtype`, or is clearly slower in it than in float32."""
    rate = matmul_rate(dtype, device)
    return rate == 0 or rate < _CLEARLY * matmul_rate(torch.float32, device)


def rate_text(dtype: torch.dtype, device: str | torch.device = "cpu") -> str:
    """Give what was measured as text, for example `3.2 GFLOP/s`."""
    rate = matmul_rate(dtype, device)
    return f"{rate:.{1 if rate < 10 else 0}f} GFLOP/s"


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Take the shorter time of two passes; on a GPU after two others, in which it finds its kernels.

    On a CPU these are seconds of the process, whatever else the machine does meanwhile.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    taken: list[float] = []
    for _ in range(4 if device.type == "cuda" else 2):
        _synchronised(device)
        started = clock()
        work()
        _synchronised(device)
        taken.append(clock() - started)
    return min(taken[-2:])


def _synchronised(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@lru_cache
def _measured(dtype: torch.dtype, device: torch.device) -> float:
    """Measure, from small products to larger ones, until one takes long enough."""
    best, size = 0.0, _SMALLEST
    largest = _LARGEST_ON_CPU if device.type == "cpu" else _LARGEST
    with _one_thread():
        while size <= largest:
            try:
                seconds = _seconds(size, dtype, device)
            except (RuntimeError, TypeError):  # the device does not know the type, or has no memory left
                break
            best = max(best, 2 * size**3 / seconds / 1e9)
            if seconds > _LONG_ENOUGH:
                break
            size *= 2
    return best


def _seconds(size: int, dtype: torch.dtype, device: torch.device) -> float:
    """Take the shortest time of a product of two `size` x `size` matrices; the first prepares, and does not count."""
    values = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)
    product = torch.empty_like(values)
    shortest, spent = inf, None
    with torch.no_grad():
        while spent is None or spent < _SPENT:
            started = time.perf_counter()
            torch.mm(values, values, out=product)  # autocast leaves products with `out` alone
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            taken = time.perf_counter() - started
            if spent is None:
                spent = 0.0
            else:
                shortest, spent = min(shortest, taken), spent + taken
    return shortest


@contextmanager
def _one_thread() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
